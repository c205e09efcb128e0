# Nodes by number: kwok says that pods on them run. They carry a taint, so that only what tolerates it lands there.
# Sourced after control.sh.
# shellcheck shell=bash

start_kwok() {
  local file
  local -a configs=()
  for file in "$BED_BIN"/kwok-stages/*.yaml; do configs+=(--config "$file"); done
  start_service control kwok "$BED_BIN/kwok" --kubeconfig "$BED/certs/kwok.kubeconfig" "${configs[@]}" \
    --manage-all-nodes=false --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake \
    --cidr=10.64.0.0/11 --node-lease-duration-seconds=40 --v=WARN
}

# make_kwok_nodes COUNT
make_kwok_nodes() {
  seq "$1" | jq -c '{
    apiVersion: "v1", kind: "Node",
    metadata: {
      name: "kwok-\(.)",
      annotations: {"kwok.x-k8s.io/node": "fake"},
      labels: {type: "kwok", "kubernetes.io/hostname": "kwok-\(.)", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    },
    spec: {taints: [{key: "kwok.x-k8s.io/node", value: "fake", effect: "NoSchedule"}]},
    status: {
      allocatable: {cpu: "32", memory: "256Gi", pods: "110"},
      capacity: {cpu: "32", memory: "256Gi", pods: "110"}
    }
  }' >"$BED/kwok-nodes.json"
  in_net control "$BED_BIN/kubectl" --kubeconfig "$BED/kubeconfig" create -f "$BED/kwok-nodes.json" >/dev/null
}

kwok_ready() {
  local ready
  ready=$(api '/api/v1/nodes?labelSelector=type%3Dkwok' |
    jq '[.items[].status.conditions // [] | select(any(.type == "Ready" and .status == "True"))] | length')
  [[ $ready == "$1" ]]
}
# wait_kwok COUNT
wait_kwok() { wait_for $((60 + $1 / 10)) "$1 kwok nodes to be Ready" kwok_ready "$1"; }
