# The daemons of one real node: containerd and the kubelet. Sourced after cells.sh.
# shellcheck shell=bash

start_containerd() {
  local node=$1
  cat >"$BED/$node/containerd.toml" <<TOML
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "localhost/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  max_container_log_line_size = 262144
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
  conf_dir = "$BED/$node/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false
TOML
  start_service "$node" containerd env "PATH=$BED_BIN:/usr/sbin:/usr/bin:/sbin:/bin" \
    "$BED_BIN/containerd" -c "$BED/$node/containerd.toml"
}

# node_ctr NODE ARG...: containerd's own client, in the namespace that the kubelet uses.
node_ctr() {
  local node=$1
  shift
  in_cell "$node" "$BED_BIN/ctr" -n k8s.io "$@"
}

# import_image NODE ARCHIVE: gives a node an image.
import_image() { node_ctr "$1" images import --digests=false "$2"; }

start_kubelet() {
  local index=$1 node=node$1
  mkdir -p "$BED/$node/manifests"
  cat >"$BED/$node/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
address: $(node_ip "$index")
tlsCertFile: $BED/certs/$node-serving.crt
tlsPrivateKeyFile: $BED/certs/$node-serving.key
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $BED/certs/ca.crt}
authorization: {mode: Webhook}
staticPodPath: $BED/$node/manifests
volumePluginDir: /var/lib/kubelet/volume-plugins
resolvConf: ""
clusterDomain: cluster.local
clusterDNS: [$CONTROL_IP]
maxPods: 250
oomScoreAdj: 0
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: 100Mi}
imageGCHighThresholdPercent: 100
serializeImagePulls: false
kubeAPIQPS: 200
kubeAPIBurst: 400
makeIPTablesUtilChains: false
crashLoopBackOff: {maxContainerRestartPeriod: 1s}
YAML
  start_service "$node" kubelet env "PATH=$BED_BIN:/usr/sbin:/usr/bin:/sbin:/bin" "$BED_BIN/kubelet" \
    --config "$BED/$node/kubelet.yaml" --kubeconfig "$BED/certs/$node.kubeconfig" \
    --hostname-override "$node" --node-ip "$(node_ip "$index")"
}
