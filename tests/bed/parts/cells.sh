# Cells: what a bed is made of. A cell is a set of namespaces (pid, mount, network, host name, IPC; nodes also control
# groups) held by one first process. When that process is killed the kernel ends everything in the cell, and its
# mounts and interfaces go with it. Sourced after lib.sh.
# shellcheck shell=bash

# start_cell CELL: starts the cell "control" or a node's.
start_cell() {
  local cell=$1 parent
  rm -f "$BED/run/$cell.ready"
  (
    flags=(--fork --kill-child --pid --mount --propagation private --uts --ipc --net)
    if [[ $cell != control ]]; then
      enter_group "$(cell_group "$cell")"
      flags+=(--cgroup)
    fi
    exec setsid unshare "${flags[@]}" "$BED_SOURCE/parts/cell-init" "$BED" "$cell" "$BED_BIN/pause"
  ) </dev/null >"$BED/logs/$cell.init.log" 2>&1 &
  parent=$!
  # Ends with its child, and its child with it: so that a start cut off half-way can be cleaned up.
  remember_pid "$BED/run/$cell.unshare" "$parent"
  if ! wait_for 10 "cell $cell" test -e "$BED/run/$cell.ready"; then
    cat "$BED/logs/$cell.init.log" >&2
    return 1
  fi
  remember_pid "$BED/run/$cell.init" "$(first_child "$parent")"
  stat -Lc %i "/proc/$(cell_pid "$cell")/ns/net" >"$BED/run/$cell.netns"
}

# in_net CELL COMMAND...: runs COMMAND in the cell's network alone.
in_net() {
  local pid
  pid=$(cell_pid "$1")
  shift
  nsenter --net="/proc/$pid/ns/net" "$@"
}

# exec_in_cell CELL COMMAND...: becomes COMMAND in all of the cell's namespaces, and in its control group. It replaces
# the shell: call it in a subshell.
exec_in_cell() {
  local cell=$1 pid
  local -a flags
  shift
  pid=$(cell_pid "$cell") || die "cell $cell of bed $BED_NAME is not running"
  flags=(--target "$pid" --pid --mount --net --uts --ipc --wdns="$PWD")
  if [[ $cell != control ]]; then
    enter_group "$(cell_group "$cell")/system"
    flags+=(--cgroup)
  fi
  exec ${OWN_SESSION:+setsid} nsenter "${flags[@]}" -- "$@"
}
in_cell() { (exec_in_cell "$@"); }

# start_service CELL NAME COMMAND...: starts a daemon in a cell; its log is logs/CELL.NAME.log. The command is kept,
# so that tests/bed/service can start it again.
start_service() {
  local cell=$1 name=$2
  shift 2
  printf '%q ' "$@" >"$BED/run/$cell.$name.cmd"
  run_service "$cell" "$name"
}

# run_service CELL NAME: starts a daemon by its kept command.
run_service() {
  local id=$1.$2 parent
  local -a command
  eval "command=($(<"$BED/run/$id.cmd"))"
  (cd "$BED" && OWN_SESSION=1 exec_in_cell "$1" "${command[@]}") </dev/null >>"$BED/logs/$id.log" 2>&1 &
  parent=$!
  wait_for 10 "$id to start" daemon_of "$parent" || {
    tail -n 20 "$BED/logs/$id.log" >&2
    return 1
  }
  remember_pid "$BED/run/$id.pid" "$(daemon_of "$parent")"
}

# daemon_of PID: the daemon that this nsenter started: it forks once, to be in the pid namespace.
daemon_of() { [[ $(<"/proc/$1/comm") == nsenter ]] && first_child "$1"; }

# services: "CELL NAME" of each service of the bed.
services() {
  local file id
  for file in "$BED"/run/*.cmd; do
    [[ -e $file ]] || continue
    id=$(basename "$file" .cmd)
    echo "${id%%.*} ${id#*.}"
  done
}

# check_services: fails, showing the end of its log, when a service has died.
check_services() {
  local cell name
  while read -r cell name; do
    pid_of "$BED/run/$cell.$name.pid" >/dev/null || {
      say "$name in cell $cell died; the end of its log:"
      tail -n 20 "$BED/logs/$cell.$name.log" >&2
      return 1
    }
  done < <(services)
}
