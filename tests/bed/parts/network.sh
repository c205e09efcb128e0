# The network of a bed: one bridge in the control cell, a veth pair to each node, a subnet of pods behind each node.
# No way leads out: what a pod sends elsewhere is refused at once. Sourced after cells.sh.
# shellcheck shell=bash

# wire_control: the bridge, and a route to the service addresses, without which nothing gets as far as kube-proxy.
wire_control() {
  in_net control ip -batch - <<BATCH
link add br0 type bridge
addr add $CONTROL_IP/24 dev br0
link set br0 up
route add $SERVICE_NET dev br0
BATCH
}

# wire_node INDEX COUNT: joins node INDEX of COUNT to the bridge, with a route to the pods of each other node.
wire_node() {
  local node=node$1 i
  in_net control ip -batch - <<BATCH
link add $node type veth peer name eth0 netns $(cell_pid "$node")
link set $node master br0 up
route add $(node_pod_net "$1") via $(node_ip "$1")
BATCH
  {
    echo "addr add $(node_ip "$1")/24 dev eth0"
    echo "link set eth0 up"
    echo "route add default via $CONTROL_IP"
    for ((i = 1; i <= $2; i++)); do
      [[ $i == "$1" ]] || echo "route add $(node_pod_net "$i") via $(node_ip "$i")"
    done
  } | in_net "$node" ip -batch -
}

# cni_config INDEX: pods get one veth each, routed by the node. With a bridge, answers between two pods of a node
# would pass kube-proxy by and carry the wrong address.
cni_config() {
  mkdir -p "$BED/node$1/cni"
  cat >"$BED/node$1/cni/10-bed.conflist" <<JSON
{
  "cniVersion": "1.0.0",
  "name": "bed",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "$(node_pod_net "$1")"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
JSON
}
