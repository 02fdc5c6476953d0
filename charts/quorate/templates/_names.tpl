{{- define "quorate.labels" -}}
app.kubernetes.io/name: quorate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: quorate
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* quorate.selector (list ROOT COMPONENT) */}}
{{- define "quorate.selector" -}}
app.kubernetes.io/name: quorate
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* quorate.image (list ROOT IMAGE) */}}
{{- define "quorate.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- with $root.Values.imageRegistry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "quorate.controllerAccount" -}}quorate-controller{{- end }}
{{- define "quorate.agentAccount" -}}quorate-agent{{- end }}
{{- define "quorate.webhookSecret" -}}{{ .Values.webhook.existingSecret | default "quorate-webhook" }}{{- end }}

{{/* Webhooks are configured only where somebody will answer them: with nobody there, Fail would refuse every change. */}}
{{- define "quorate.webhooksServed" -}}
{{- if and .Values.webhook.enabled (or .Values.controller.enabled .Values.webhook.url) }}yes{{ end -}}
{{- end }}
