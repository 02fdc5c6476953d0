{{- /* A container of the controller's pod. "name" says what it does: the one leads and plans, "admission" answers requests. */}}
{{- define "quorate.controllerContainer" -}}
{{- $values := .root.Values -}}
- name: {{ .name }}
  image: {{ include "quorate.image" (list .root $values.controller.image) }}
  imagePullPolicy: {{ $values.controller.image.pullPolicy }}
  command: [quorate-controller]
  args:
    - --namespace=$(POD_NAMESPACE)
    - --identity=$(POD_NAME)
    - --health-port={{ .port }}
    - --log-level={{ $values.controller.logLevel }}
    - --log-format=json
    {{- if eq .name "admission" }}
    - --no-lead
    - --webhook-port={{ $values.webhook.port }}
    - --webhook-cert=/etc/quorate/webhook/tls.crt
    - --webhook-key=/etc/quorate/webhook/tls.key
    {{- else }}
    - --no-webhook
    {{- end }}
  env:
    - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
  ports:
    - {name: {{ eq .name "admission" | ternary "admission" "health" }}, containerPort: {{ .port }}}
    {{- if eq .name "admission" }}
    - {name: webhook, containerPort: {{ $values.webhook.port }}}
    {{- end }}
  livenessProbe:
    httpGet: {path: /livez, port: {{ .port }}}
    periodSeconds: 10
    timeoutSeconds: 5
  readinessProbe:
    httpGet: {path: /readyz, port: {{ .port }}}
    periodSeconds: 5
    timeoutSeconds: 5
  startupProbe:
    httpGet: {path: /livez, port: {{ .port }}}
    periodSeconds: 2
    failureThreshold: 30
  resources: {{- toYaml .resources | nindent 4 }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    {{- if eq .name "admission" }}
    - {name: webhook, mountPath: /etc/quorate/webhook, readOnly: true}
    {{- end }}
{{- end }}
