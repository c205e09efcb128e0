# Shared by the commands of tests/bed; sourced, never run.
# shellcheck shell=bash disable=SC2034  # what looks unused is for those who source this

BED_SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BED_ROOT=${NEAP_BED_DIR:-/tmp/neap-bed}
BED_CACHE=${NEAP_CACHE:-$HOME/.cache/neap}/bed
# shellcheck source=tests/bed/versions
source "$BED_SOURCE/versions"

# Addresses are the same in every bed: each lives in network namespaces of its own.
CONTROL_IP=10.250.0.1
POD_NET=10.244.0.0/16
SERVICE_NET=10.96.0.0/16
SERVICE_IP=10.96.0.1
API_SERVER=https://$CONTROL_IP:6443
node_ip() { echo "10.250.0.$((10 + $1))"; }
node_pod_net() { echo "10.244.$1.0/24"; }

say() { printf '%s\n' "bed: $*" >&2; }
die() {
  printf '%s\n' "bed: error: $*" >&2
  exit 1
}

# Milliseconds since an arbitrary point; for deadlines and for saying how long something took.
now_ms() {
  local up
  read -r up _ </proc/uptime
  echo $((10#${up/./} * 10))
}

# wait_for SECONDS WHAT COMMAND...: runs COMMAND until it succeeds; fails, naming WHAT, when SECONDS are over.
wait_for() {
  local deadline=$(($(now_ms) + $1 * 1000)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if (($(now_ms) > deadline)); then
      say "gave up waiting for $what"
      return 1
    fi
    sleep 0.05
  done
}

# The hash of everything that decides what the cache holds.
cache_key() {
  (cd "$BED_SOURCE" && cat versions pause.c controlplane/go.mod controlplane/go.sum controlplane/*.go bedtool/*.go bedtool/go.mod) |
    sha256sum | cut -c1-12
}
bed_bin() { echo "$BED_CACHE/$(cache_key)/bin"; }

# use_bed NAME: sets BED_NAME and BED, the bed's folder.
use_bed() {
  [[ $1 =~ ^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$ ]] ||
    die "bed name '$1': want 1 to 20 of a-z, 0-9 and '-', not '-' first or last"
  BED_NAME=$1
  BED=$BED_ROOT/$1
}

# need_bed NAME: the same for a bed that must be up; reads its env file.
need_bed() {
  use_bed "$1"
  [[ -f $BED/env ]] || die "no bed '$1' under $BED_ROOT; start one: tests/bed/up --name $1"
  # shellcheck source=/dev/null
  source "$BED/env"
  cell_alive control || die "bed '$1' is dead; remove what is left of it: tests/bed/down $1"
}

# A process is remembered as "pid starttime", so that a reused pid is never taken for it.
start_time() {
  local stat
  [[ -n $1 ]] || return 1
  read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
  stat=${stat##*) }
  # shellcheck disable=SC2086
  set -- $stat
  [[ $1 != Z ]] && echo "${20}"
}
remember_pid() { echo "$2 $(start_time "$2")" >"$1"; }
# pid_of FILE: the pid that FILE remembers, if that very process still runs.
pid_of() {
  local pid started
  read -r pid started 2>/dev/null <"$1" || return 1
  [[ -n $started && $(start_time "$pid") == "$started" ]] && echo "$pid"
}
first_child() {
  local child=
  # The file does not end in a newline, which read takes for a failure.
  read -r child _ 2>/dev/null <"/proc/$1/task/$1/children" || true
  [[ -n $child ]] && echo "$child"
}

cell_pid() { pid_of "$BED/run/$1.init"; }
cell_alive() { cell_pid "$1" >/dev/null; }
# cell_group CELL: the name of the control group, in every hierarchy, below which all of a node's groups are.
cell_group() { echo "neap-bed-$BED_NAME-$1"; }

# The folders of the control group hierarchies: one with cgroup v2 alone, several with v1 or both.
hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" { if (index($2, "/sys/fs/cgroup") == 1) print $2 }' /proc/mounts | sort -u; }

# enter_group GROUP: moves the calling (sub)shell into GROUP in every hierarchy; makes the group where it is missing.
enter_group() {
  local hierarchy group
  for hierarchy in $(hierarchies); do
    group=$hierarchy/$1
    if [[ ! -d $group ]]; then
      mkdir -p "$group"
      if [[ -f $group/cgroup.clone_children && -f $group/cpuset.cpus ]]; then
        # A v1 cpuset takes no process before it has processors; children copy these from here.
        echo 1 >"$group/cgroup.clone_children"
        cat "$hierarchy/cpuset.cpus" >"$group/cpuset.cpus"
        cat "$hierarchy/cpuset.mems" >"$group/cpuset.mems"
      fi
    fi
    echo "$BASHPID" >"$group/cgroup.procs"
  done
}

# remove_groups GROUP: removes GROUP and all groups below it, in every hierarchy. Its processes must have ended.
remove_groups() {
  local hierarchy
  for hierarchy in $(hierarchies); do
    [[ -d $hierarchy/$1 ]] || continue
    find "$hierarchy/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [[ ! -d $hierarchy/$1 ]] || return 1
  done
}
