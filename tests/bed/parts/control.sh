# The control plane's daemons, all in the control cell. Sourced after cells.sh.
# shellcheck shell=bash

# extra_args PART: what the user gave with --arg PART=FLAG, one a line.
extra_args() {
  local arg
  for arg in ${EXTRA_ARGS[@]+"${EXTRA_ARGS[@]}"}; do
    [[ $arg != "$1="* ]] || printf '%s\n' "${arg#*=}"
  done
}

# start_part PART FLAG...: starts a part of the control plane with its flags and the user's.
start_part() { start_part_as "$1" "$@"; }

# start_part_as SERVICE PART FLAG...: the same under another name, for a second one of it.
start_part_as() {
  local service=$1 part=$2
  local -a more
  shift 2
  mapfile -t more < <(extra_args "$part")
  start_service control "$service" "$BED_BIN/$part" "$@" ${more[@]+"${more[@]}"}
}

start_etcd() {
  start_part etcd --data-dir "$BED/etcd" --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --log-level warn
}

start_apiserver() {
  local c=$BED/certs
  start_part kube-apiserver \
    --etcd-servers http://127.0.0.1:2379 \
    --bind-address 0.0.0.0 --advertise-address "$CONTROL_IP" --secure-port 6443 \
    --tls-cert-file "$c/apiserver.crt" --tls-private-key-file "$c/apiserver.key" --client-ca-file "$c/ca.crt" \
    --service-cluster-ip-range "$SERVICE_NET" \
    --service-account-issuer https://kubernetes.default.svc.cluster.local \
    --service-account-jwks-uri https://kubernetes.default.svc.cluster.local/openid/v1/jwks \
    --service-account-key-file "$c/sa.pub" --service-account-signing-key-file "$c/sa.key" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
    --requestheader-client-ca-file "$c/front-ca.crt" --requestheader-allowed-names front-proxy-client \
    --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
    --requestheader-extra-headers-prefix X-Remote-Extra- \
    --proxy-client-cert-file "$c/front-proxy-client.crt" --proxy-client-key-file "$c/front-proxy-client.key" \
    --enable-aggregator-routing=true \
    --kubelet-preferred-address-types InternalIP --kubelet-certificate-authority "$c/ca.crt" \
    --kubelet-client-certificate "$c/apiserver-kubelet-client.crt" --kubelet-client-key "$c/apiserver-kubelet-client.key" \
    --audit-policy-file "$BED_SOURCE/parts/audit-policy.yaml" --audit-log-path "$BED/audit.log" \
    --audit-log-maxsize 512 --audit-log-maxbackup 2
}

# start_controllers N: kube-controller-manager, kube-controller-manager-2 and so on, and the scheduler.
# The default of 20 requests a second would make hundreds of nodes wait for the controllers.
start_controllers() {
  local c=$BED/certs i name=kube-controller-manager elect=false
  (($1 == 1)) || elect=true
  for ((i = 1; i <= $1; i++)); do
    start_controller_manager "$name" $((10256 + i)) "$elect"
    name=kube-controller-manager-$((i + 1))
  done
  start_part kube-scheduler \
    --kubeconfig "$c/kube-scheduler.kubeconfig" \
    --authentication-kubeconfig "$c/kube-scheduler.kubeconfig" \
    --authorization-kubeconfig "$c/kube-scheduler.kubeconfig" --leader-elect=false \
    --kube-api-qps 300 --kube-api-burst 600
}

# start_controller_manager SERVICE PORT ELECT
start_controller_manager() {
  local c=$BED/certs
  start_part_as "$1" kube-controller-manager --secure-port "$2" --leader-elect="$3" \
    --kubeconfig "$c/kube-controller-manager.kubeconfig" \
    --authentication-kubeconfig "$c/kube-controller-manager.kubeconfig" \
    --authorization-kubeconfig "$c/kube-controller-manager.kubeconfig" \
    --service-account-private-key-file "$c/sa.key" --use-service-account-credentials --root-ca-file "$c/ca.crt" \
    --cluster-signing-cert-file "$c/ca.crt" --cluster-signing-key-file "$c/ca.key" \
    --kube-api-qps 300 --kube-api-burst 600
}

start_dns() {
  cat >"$BED/Corefile" <<COREFILE
.:53 {
    bind $CONTROL_IP 127.0.0.1
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig $BED/certs/coredns.kubeconfig
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 1
    }
}
COREFILE
  start_service control coredns "$BED_BIN/coredns" -conf "$BED/Corefile"
}

# start_proxy CELL IP: kube-proxy, in each node and beside the control plane too, so that cluster IPs work from there.
# The control cell is no node: its kube-proxy takes the name of the first.
start_proxy() {
  local cell=$1 name=$1
  [[ $cell != control ]] || name=node1
  cat >"$BED/$cell.proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $BED/certs/kube-proxy.kubeconfig}
clusterCIDR: $POD_NET
hostnameOverride: $name
bindAddress: $2
metricsBindAddress: 127.0.0.1:10249
healthzBindAddress: 127.0.0.1:10256
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {minSyncPeriod: 100ms}
oomScoreAdj: 0
YAML
  start_service "$cell" kube-proxy "$BED_BIN/kube-proxy" --config "$BED/$cell.proxy.yaml"
}

# api PATH: GET from the API server as admin; quicker than a run of kubectl.
api() {
  in_net control curl -fsS --max-time 5 --cacert "$BED/certs/ca.crt" --cert "$BED/certs/admin.crt" \
    --key "$BED/certs/admin.key" "$API_SERVER$1"
}
