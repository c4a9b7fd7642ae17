{{/* The settings file: the values', over what the mode decides. */}}
{{- define "otelbridge.config" -}}
{{- $endpoints := dict "node" "${env:HOST_IP}:32767" "relay" "kubearmor.kubearmor.svc.cluster.local:32767" }}
{{- $config := dict "feed" (dict "endpoints" (list (get $endpoints .Values.mode))) }}
{{- $_ := required "config.send.endpoint is not set: it is where your Collector takes OTLP, such as http://otel-collector.observability.svc:4317." (dig "send" "endpoint" "" .Values.config) }}
{{- mergeOverwrite $config (deepCopy .Values.config) | toYaml }}
{{- end }}

{{- define "otelbridge.resources" -}}
{{- $node := dict
  "requests" (dict "cpu" "50m" "memory" "96Mi" "ephemeral-storage" .Values.persistence.sizeLimit)
  "limits" (dict "memory" "448Mi" "ephemeral-storage" "1Gi") }}
{{- $relay := dict
  "requests" (dict "cpu" "250m" "memory" "96Mi" "ephemeral-storage" "64Mi")
  "limits" (dict "memory" "448Mi" "ephemeral-storage" "256Mi") }}
{{- mergeOverwrite (ternary $node $relay (eq .Values.mode "node")) (deepCopy .Values.resources) | toYaml }}
{{- end }}

{{- define "otelbridge.tolerations" -}}
{{- if hasKey .Values "tolerations" }}
{{- toYaml .Values.tolerations }}
{{- else if eq .Values.mode "node" }}
{{- /* Wherever KubeArmor runs, tainted nodes included. */ -}}
- operator: Exists
{{- else -}}
[]
{{- end }}
{{- end }}

{{/* A relay's pod never runs beside bridges on the nodes, which deliver the same events. All of Linux is one place. */}}
{{- define "otelbridge.affinity" -}}
{{- if .Values.affinity }}
{{- toYaml .Values.affinity }}
{{- else if eq .Values.mode "relay" -}}
podAntiAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/os
      labelSelector:
        matchExpressions:
          - {key: app.kubernetes.io/name, operator: In, values: [{{ include "otelbridge.name" . }}]}
          - {key: app.kubernetes.io/component, operator: In, values: [node]}
{{- else -}}
{}
{{- end }}
{{- end }}
