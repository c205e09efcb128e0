{{/* The rules of the coordinator. Each stands, with its reason, in docs/rbac.md; a test compares. */}}

{{/* On objects of the cluster. */}}
{{- define "neap.rules.cluster" -}}
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list, watch]
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
- nonResourceURLs: [/.well-known/openid-configuration, /openid/v1/jwks]
  verbs: [get]
- apiGroups: [keda.sh]
  resources: [clustertriggerauthentications]
  verbs: [get, list, watch, patch]
- apiGroups: [keda.sh]
  resources: [clustertriggerauthentications/status]
  verbs: [patch]
{{- if not .Values.watchNamespaces }}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get, list, watch]
{{- end }}
{{- end }}

{{/* On objects of the served namespaces, or of all of them. */}}
{{- define "neap.rules.served" -}}
- apiGroups: [keda.sh]
  resources: [scaledobjects, triggerauthentications]
  verbs: [get, list, watch, patch]
- apiGroups: [keda.sh]
  resources: [scaledobjects/status, triggerauthentications/status]
  verbs: [patch]
- apiGroups: [keda.sh]
  resources: [scaledobjects/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [deployments, statefulsets, replicasets]
  verbs: [get, list, watch]
{{- range .Values.rbac.scaleKinds }}
- apiGroups: [{{ .apiGroup | quote }}]
  resources: [{{ printf "%s/scale" .resource | quote }}]
  verbs: [get, patch]
{{- if and (ne .resource "*") (ne .apiGroup "*") (ne .apiGroup "apps") }}
- apiGroups: [{{ .apiGroup | quote }}]
  resources: [{{ .resource | quote }}]
  verbs: [get, list, watch]
{{- end }}
{{- end }}
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch]
{{- if .Values.rbac.takeOver }}
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [delete]
{{- end }}
- apiGroups: [""]
  resources: [limitranges]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if eq .Values.rbac.secrets "cluster" }}
{{ include "neap.rules.secrets" . }}
{{- end }}
{{- end }}

{{/* On Secrets that triggers name. */}}
{{- define "neap.rules.secrets" -}}
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
{{- end }}

{{/* On KEDA's lease. */}}
{{- define "neap.rules.keda" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [operator.keda.sh]
  verbs: [get, list, watch]
{{- end }}

{{/* In the release's own namespace. */}}
{{- define "neap.rules.own" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [neap-coordinator]
  verbs: [get, update, patch]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [create]
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [neap-ca]
  verbs: [get, update, patch]
{{- if not (.Values.coordinator.tls).secretName }}
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [neap-ca]
  verbs: [get, update, patch]
{{- end }}
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [apps]
  resources: [statefulsets]
  resourceNames: [neap-coordinator]
  verbs: [get]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- if ne .Values.rbac.secrets "none" }}
{{ include "neap.rules.secrets" . }}
{{- end }}
{{- end }}

{{/* A Role and its binding: (list $ name namespace rules). */}}
{{- define "neap.role" -}}
{{- $root := index . 0 -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ index . 1 }}
  namespace: {{ index . 2 }}
  labels:
    app.kubernetes.io/name: neap-coordinator
    app.kubernetes.io/instance: {{ $root.Release.Name }}
    {{- include "neap.labels" $root | nindent 4 }}
  {{- include "neap.annotations" $root }}
rules:
  {{- index . 3 | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ index . 1 }}
  namespace: {{ index . 2 }}
  labels:
    app.kubernetes.io/name: neap-coordinator
    app.kubernetes.io/instance: {{ $root.Release.Name }}
    {{- include "neap.labels" $root | nindent 4 }}
  {{- include "neap.annotations" $root }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ index . 1 }}
subjects:
  - kind: ServiceAccount
    name: {{ $root.Values.coordinator.serviceAccount.name }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}

{{/* A ClusterRole and its binding: (list $ name rules). */}}
{{- define "neap.clusterRole" -}}
{{- $root := index . 0 -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ index . 1 }}
  labels:
    app.kubernetes.io/name: neap-coordinator
    app.kubernetes.io/instance: {{ $root.Release.Name }}
    {{- include "neap.labels" $root | nindent 4 }}
  {{- include "neap.annotations" $root }}
rules:
  {{- index . 2 | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ index . 1 }}
  labels:
    app.kubernetes.io/name: neap-coordinator
    app.kubernetes.io/instance: {{ $root.Release.Name }}
    {{- include "neap.labels" $root | nindent 4 }}
  {{- include "neap.annotations" $root }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ index . 1 }}
subjects:
  - kind: ServiceAccount
    name: {{ $root.Values.coordinator.serviceAccount.name }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}
