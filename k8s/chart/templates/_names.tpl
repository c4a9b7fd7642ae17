{{/* The name that selectors and the scheduler's rule know. */}}
{{- define "otelbridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of the objects: the release's, with ours where it is not in it. */}}
{{- define "otelbridge.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "otelbridge.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "otelbridge.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "otelbridge.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "otelbridge.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "otelbridge.image" -}}
{{- $repository := required "image.repository is not set: nobody has published an image. Build one from the Dockerfile, push it to your registry, and name it here." .Values.image.repository }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* What a selector holds, and therefore never changes. */}}
{{- define "otelbridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "otelbridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "otelbridge.labels" -}}
{{ include "otelbridge.selectorLabels" . }}
app.kubernetes.io/component: {{ .Values.mode }}
app.kubernetes.io/part-of: kubearmor
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Of everything but what is in a template: that of a claim cannot change, and a new chart alone shall replace no pod. */}}
{{- define "otelbridge.objectLabels" -}}
{{ include "otelbridge.labels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}
