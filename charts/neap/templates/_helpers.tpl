{{/* Names are fixed: certificates and agents rely on them. One release per namespace. */}}
{{- define "neap.coordinator" -}}neap-coordinator{{- end }}
{{- define "neap.peers" -}}neap-coordinator-peers{{- end }}
{{- define "neap.agent" -}}neap-agent{{- end }}

{{/* Labels of every object, beside its name and the release. */}}
{{- define "neap.labels" -}}
app.kubernetes.io/part-of: neap
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The annotations that all objects have, as a field of metadata; nothing if there are none. */}}
{{- define "neap.annotations" -}}
{{- with .Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}

{{- define "neap.coordinator.selector" -}}
app.kubernetes.io/name: neap-coordinator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "neap.agent.selector" -}}
app.kubernetes.io/name: neap-agent
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The image of a component: (list $ component). */}}
{{- define "neap.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := $root.Values.global.imageRegistry | default $root.Values.image.registry -}}
{{- $name := $image.repository -}}
{{- if $registry -}}{{- $name = printf "%s/%s" $registry $image.repository -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default $root.Values.image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{/* The field imagePullSecrets; nothing if there are none. */}}
{{- define "neap.pullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.image.pullSecrets | uniq }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* The namespaces in which a Role is needed to serve ScaledObjects. */}}
{{- define "neap.servedNamespaces" -}}
{{- .Values.watchNamespaces | uniq | sortAlpha | toJson -}}
{{- end }}

{{/* Labels of a component's pods; what selects them cannot be overwritten:
(list $ component selector). */}}
{{- define "neap.podLabels" -}}
{{- $root := index . 0 -}}
{{- $own := mustMergeOverwrite (dict "app.kubernetes.io/part-of" "neap") (index . 2 | fromYaml) -}}
{{- mustMergeOverwrite (dict) $root.Values.commonLabels (index . 1).podLabels $own | toYaml -}}
{{- end }}

{{/* Annotations of a component's pods: (list $ component container port). */}}
{{- define "neap.podAnnotations" -}}
{{- $root := index . 0 -}}
{{- $own := dict
  "kubectl.kubernetes.io/default-container" (index . 2)
  "prometheus.io/scrape" "true"
  "prometheus.io/port" (index . 3)
  "prometheus.io/path" "/metrics" -}}
{{- mustMergeOverwrite $own $root.Values.commonAnnotations (index . 1).podAnnotations | toYaml -}}
{{- end }}
