# Shared by the suites: counting, and the closing line that tests/run reads.
passed=0 failed=0

# at_exit COMMAND: runs it when the suite ends, before what was named earlier.
exits=
at_exit() { exits="$1; $exits"; }
trap 'eval "$exits"' EXIT

# check NAME COMMAND...: runs the command, shows its output only when it fails.
check() {
  local name=$1 out
  shift
  if out=$("$@" 2>&1); then
    passed=$((passed + 1))
    echo "ok    $name"
  else
    failed=$((failed + 1))
    echo "FAIL  $name"
    printf '%s\n' "$out" | tail -n 60
  fi
}

# count_cargo FILE: adds up the "test result:" lines of cargo test.
count_cargo() {
  local ok bad
  ok=$(sed -n 's/^test result: .* \([0-9]*\) passed; .*/\1/p' "$1" | awk '{n += $1} END {print n + 0}')
  bad=$(sed -n 's/^test result: .* \([0-9]*\) failed; .*/\1/p' "$1" | awk '{n += $1} END {print n + 0}')
  passed=$((passed + ok)) failed=$((failed + bad))
}

# need_packages PROGRAM:PACKAGE...: installs, as root, the Debian package of each program that is missing.
need_packages() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    echo "missing, and to be installed by root: ${missing[*]}"
    return 0
  fi
  echo "installing ${missing[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# use_own_bed NAME [BED ARGUMENT]...: brings up a bed for this suite, reads its env, and takes it down when the suite
# ends. A suite without its bed has failed.
use_own_bed() {
  bed_tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/../bed" && pwd)
  bed_name=$1
  shift
  # A suite that is stopped while its bed starts takes the start along.
  "$bed_tools/up" --name "$bed_name" "$@" &
  bed_start=$!
  at_exit '[ -z "$bed_start" ] || { kill "$bed_start"; wait "$bed_start"; } 2>/dev/null
    "$bed_tools/down" "$bed_name" >/dev/null 2>&1'
  wait "$bed_start"
  local status=$?
  bed_start=
  if [ $status -ne 0 ]; then
    failed=$((failed + 1))
    closing
    exit 1
  fi
  # shellcheck source=/dev/null
  . "${NEAP_BED_DIR:-/tmp/neap-bed}/$bed_name/env"
}

# install_neap [HELM ARGUMENT]...: Neap from this checkout, into the suite's own bed.
install_neap() {
  if ! "$bed_tools/install" "$bed_name" "$@"; then
    failed=$((failed + 1))
    closing
    exit 1
  fi
}

# build_tests [--examples]: the binaries and tests of the whole workspace, as "cargo test --workspace" builds them. Any other choice
# of packages means other features of the dependencies, and those built a second time.
build_tests() {
  cargo build --workspace --bins --tests "$@" --locked --quiet || { failed=$((failed + 1)); closing; exit 1; }
}

# cargo_in_bed --test NAME... -- ...: "cargo test" of what is built already, in the bed's network, with what the tests
# ask for.
cargo_in_bed() {
  local host=${API_SERVER#https://}
  NEAP_BED_AUDIT=$AUDIT_LOG NEAP_BED_NODE_IP=${host%%:*} NEAP_BED_KUBECTL="$bed_tools/kubectl $bed_name" \
    NEAP_BED_SERVICE="$bed_tools/service $bed_name" NEAP_BED_HELM="$bed_tools/helm $bed_name" \
    "$bed_tools/in" "$bed_name" env "PATH=$PATH" "HOME=$HOME" "KUBECONFIG=$KUBECONFIG" "$(command -v cargo)" test \
    --workspace --locked --offline --no-fail-fast "$@" 2>&1
}

closing() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
}
