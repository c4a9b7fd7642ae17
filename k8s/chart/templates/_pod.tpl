{{/* The pod, the same in both modes but for the queue's volume. */}}
{{- define "otelbridge.pod" -}}
metadata:
  labels:
    {{- include "otelbridge.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Changed settings roll the pods.
    checksum/config: {{ include "otelbridge.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "otelbridge.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "otelbridge.tolerations" . | fromYamlArray }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "otelbridge.affinity" . | fromYaml }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: otelbridge
      image: {{ include "otelbridge.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [run, --config, /etc/otelbridge/otelbridge.yaml]
      env:
        - name: NODE_NAME
          valueFrom:
            fieldRef:
              fieldPath: spec.nodeName
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: POD_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        - name: POD_UID
          valueFrom:
            fieldRef:
              fieldPath: metadata.uid
        # On the bridge's own spans and metrics; never on the events, which are about other pods.
        - name: OTEL_RESOURCE_ATTRIBUTES
          value: k8s.node.name=$(NODE_NAME),k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME),k8s.pod.uid=$(POD_UID)
        {{- if eq .Values.mode "node" }}
        # For the settings file.
        - name: HOST_IP
          valueFrom:
            fieldRef:
              fieldPath: status.hostIP
        {{- end }}
        {{- if .Values.tls.enabled }}
        - name: OTELBRIDGE_FEED__TLS__ENABLED
          value: "true"
        - name: OTELBRIDGE_FEED__TLS__CA_FILE
          value: /etc/otelbridge-kubearmor/ca.crt
        - name: OTELBRIDGE_FEED__TLS__CERT_FILE
          value: /etc/otelbridge-kubearmor/tls.crt
        - name: OTELBRIDGE_FEED__TLS__KEY_FILE
          value: /etc/otelbridge-kubearmor/tls.key
        {{- end }}
        {{- with .Values.extraEnvs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.extraEnvsFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: status
          containerPort: {{ dig "status" "port" 32799 .Values.config }}
          protocol: TCP
      {{- with .Values.startupProbe }}
      startupProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.livenessProbe }}
      livenessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.readinessProbe }}
      readinessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- include "otelbridge.resources" . | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - name: settings
          mountPath: /etc/otelbridge
          readOnly: true
        - name: queue
          mountPath: {{ .Values.config.queue.directory }}
        {{- if .Values.tls.enabled }}
        # The folder, not its files: a file mounted by itself never changes when the Secret does.
        - name: kubearmor-client
          mountPath: /etc/otelbridge-kubearmor
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: settings
      configMap:
        name: {{ include "otelbridge.fullname" . }}
    {{- if eq .Values.mode "node" }}
    # Survives a crash and a restart of the container, not the pod's removal from the node.
    - name: queue
      emptyDir:
        sizeLimit: {{ .Values.persistence.sizeLimit }}
    {{- end }}
    {{- if .Values.tls.enabled }}
    - name: kubearmor-client
      secret:
        secretName: {{ .Values.tls.secretName }}
        # Read by the pod's group.
        defaultMode: 0440
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
