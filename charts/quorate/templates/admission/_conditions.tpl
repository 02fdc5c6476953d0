{{- define "quorate.clientConfig" -}}
{{- $root := index . 0 -}}{{- $path := index . 1 -}}{{- $ca := index . 2 -}}
clientConfig:
  {{- if $root.Values.webhook.url }}
  url: {{ trimSuffix "/" $root.Values.webhook.url }}{{ $path }}
  {{- else }}
  service: {name: quorate-webhook, namespace: {{ $root.Release.Namespace }}, path: {{ $path }}, port: 443}
  {{- end }}
  {{- with $ca }}
  caBundle: {{ . | replace "\n" "" }}
  {{- end }}
{{- end }}

{{/* What makes the cluster itself work is never judged: restarting a dead host's VMs must not wait for a webhook. virt-api is not among
     them, because it carries what people ask of virtctl. */}}
{{- define "quorate.notTheMachinery" -}}
- name: not-the-machinery
  expression: >-
    !(request.userInfo.username in ['system:kube-controller-manager', 'system:kube-scheduler', 'system:apiserver'])
    && !request.userInfo.username.startsWith('system:node:')
    && !request.userInfo.username.matches('^system:serviceaccount:[^:]+:kubevirt-(controller|handler|operator)$')
    && !('system:serviceaccounts:kube-system' in request.userInfo.?groups.orValue([]))
    && !('system:serviceaccounts:{{ .Release.Namespace }}' in request.userInfo.?groups.orValue([]))
{{- end }}

{{- define "quorate.judgedNamespaces" -}}
namespaceSelector:
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values: {{ concat (list "kube-system" .Release.Namespace .Values.kubevirt.namespace) .Values.webhook.excludedNamespaces | uniq | toJson }}
{{- end }}
