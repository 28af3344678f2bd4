{{/* Labels of all objects. */}}
{{- define "quarterdeck.labels" -}}
app.kubernetes.io/name: quarterdeck
app.kubernetes.io/part-of: quarterdeck
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels that select the Pods of a component; they never change. */}}
{{- define "quarterdeck.selector" -}}
app.kubernetes.io/name: quarterdeck
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The image with the binary. */}}
{{- define "quarterdeck.image" -}}
{{- $image := .Values.image -}}
{{- if $image.reference -}}
{{ $image.reference }}
{{- else if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Where data planes fetch snapshots. */}}
{{- define "quarterdeck.operatorUrl" -}}
{{ .Values.operator.url | default (printf "http://%s-operator.%s.svc:8090" .Values.fullname .Release.Namespace) }}
{{- end }}

{{/* Where agents reach models. */}}
{{- define "quarterdeck.gatewayUrl" -}}
{{ .Values.gateway.url | default (printf "http://%s-gateway.%s.svc:%v/v1" .Values.fullname .Release.Namespace .Values.gateway.service.port) }}
{{- end }}

{{/* What the Pods of all components have in common. */}}
{{- define "quarterdeck.pod" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}

{{/* What the containers of all components have in common. */}}
{{- define "quarterdeck.container" -}}
image: {{ include "quarterdeck.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.securityContext }}
securityContext:
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}

{{/* The Pod's address and name, for arguments. */}}
{{- define "quarterdeck.environment" -}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: QD_LOG
  value: {{ .logFilter | quote }}
{{- end }}

{{/* A data plane: Deployment, Service, ServiceAccount and volume claim. */}}
{{- define "quarterdeck.plane" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $values := .values -}}
{{- $name := printf "%s-%s" $root.Values.fullname $component -}}
{{- if and $values.persistence.enabled (gt (int $values.replicas) 1) }}
{{- fail (printf "%s.replicas is %v, but %s.persistence.enabled gives them one volume; set it to false" $component $values.replicas $component) }}
{{- end }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "quarterdeck.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $component }}
  {{- with ($values.serviceAccount).annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- if $values.persistence.enabled }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "quarterdeck.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $component }}
spec:
  accessModes: [ReadWriteOnce]
  {{- with $values.persistence.storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ $values.persistence.size }}
{{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "quarterdeck.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $component }}
  {{- with $values.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $values.service.type }}
  selector:
    {{- include "quarterdeck.selector" (dict "component" $component) | nindent 4 }}
  ports:
  - name: http
    port: {{ $values.service.port }}
    targetPort: http
  {{- if ($values.endpointPicker).enabled }}
  - name: grpc-picker
    port: {{ $values.endpointPicker.port }}
    targetPort: grpc-picker
    appProtocol: kubernetes.io/h2c
  {{- end }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "quarterdeck.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $component }}
spec:
  replicas: {{ $values.replicas }}
  {{- if $values.persistence.enabled }}
  # The volume is mounted by one Pod at a time.
  strategy: {type: Recreate}
  {{- end }}
  selector:
    matchLabels:
      {{- include "quarterdeck.selector" (dict "component" $component) | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "quarterdeck.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ $component }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
      {{- with (include "quarterdeck.pod" $root | trim) }}
      {{- . | nindent 6 }}
      {{- end }}
      containers:
      - name: {{ $component }}
        {{- include "quarterdeck.container" $root | nindent 8 }}
        args:
        - {{ $component }}
        - --listen
        - $(POD_IP):8080
        - --snapshots
        - {{ include "quarterdeck.operatorUrl" $root }}
        - --token-file
        - /var/run/secrets/quarterdeck/token
        - --data-dir
        - /var/lib/quarterdeck
        - --node
        - $(POD_NAME)
        {{- if ($values.endpointPicker).enabled }}
        - --endpoint-picker-listen
        - $(POD_IP):9002
        {{- end }}
        {{- if (($values.ledger).urlSecret).name }}
        - --ledger-url-file
        - /var/run/secrets/quarterdeck-ledger/url
        {{- end }}
        {{- if ($values.adminKeySecret).name }}
        - --admin-key-file
        - /var/run/secrets/quarterdeck-admin/key
        {{- end }}
        {{- with ($values.workloadIdentity).namespaces }}
        - --workload-identity-namespaces
        - {{ join "," . | quote }}
        {{- end }}
        {{- with ($values.workloadIdentity).hosts }}
        - --workload-identity-hosts
        - {{ join "," . | quote }}
        {{- end }}
        {{- range $values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
        env:
        {{- include "quarterdeck.environment" $values | nindent 8 }}
        ports:
        - {name: http, containerPort: 8080}
        {{- if ($values.endpointPicker).enabled }}
        - {name: grpc-picker, containerPort: 9002}
        {{- end }}
        livenessProbe:
          httpGet: {path: /healthz, port: http}
          periodSeconds: 10
          timeoutSeconds: 5
        readinessProbe:
          httpGet: {path: /readyz, port: http}
          periodSeconds: 1
          timeoutSeconds: 2
        {{- if or $values.resources.requests $values.resources.limits }}
        resources:
          {{- toYaml $values.resources | nindent 10 }}
        {{- end }}
        volumeMounts:
        - {name: data, mountPath: /var/lib/quarterdeck}
        - {name: token, mountPath: /var/run/secrets/quarterdeck, readOnly: true}
        {{- if (($values.ledger).urlSecret).name }}
        - {name: ledger, mountPath: /var/run/secrets/quarterdeck-ledger, readOnly: true}
        {{- end }}
        {{- if ($values.adminKeySecret).name }}
        - {name: admin, mountPath: /var/run/secrets/quarterdeck-admin, readOnly: true}
        {{- end }}
      volumes:
      - name: data
        {{- if $values.persistence.enabled }}
        persistentVolumeClaim: {claimName: {{ $name }}}
        {{- else }}
        emptyDir: {}
        {{- end }}
      - name: token
        projected:
          sources:
          - serviceAccountToken: {audience: quarterdeck, path: token, expirationSeconds: 3600}
      {{- with ($values.ledger).urlSecret }}
      {{- if .name }}
      - name: ledger
        secret:
          secretName: {{ .name }}
          items:
          - {key: {{ .key }}, path: url}
      {{- end }}
      {{- end }}
      {{- with $values.adminKeySecret }}
      {{- if .name }}
      - name: admin
        secret:
          secretName: {{ .name }}
          items:
          - {key: {{ .key }}, path: key}
      {{- end }}
      {{- end }}
{{- end }}
