# shellcheck shell=sh
# Ends processes whose numbers are recorded in files. Sourced by libvirt.sh and machines.sh.

# Asks one to end: systemd-nspawn then shuts its machine down. Nothing where there is no such file.
ask_to_end() {
  if [ -e "$1" ]; then kill -TERM "$(cat "$1")" 2> /dev/null || :; fi
}

# Waits for the end of one that was asked, for five seconds, and then makes it end.
end() {
  [ -e "$1" ] || return 0
  pid=$(cat "$1")
  for _ in $(seq 50); do
    kill -0 "$pid" 2> /dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$pid" 2> /dev/null || :
}
