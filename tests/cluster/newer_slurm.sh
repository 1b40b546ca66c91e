#!/usr/bin/env bash
# Runs the tests of SLURM with the SLURM of another Debian than the machine's, in a folder that holds that Debian.
# Needs root, debootstrap and what `make install` made. Mounts end with the process.
#
#   tests/cluster/newer_slurm.sh trixie [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "$0")/../.."

release=${1:?"the name of a release of Debian, such as trixie"}
shift
root=${SLURM_ROOT:-/var/tmp/slurm-$release}
# What tests and the Python of .venv need of the system.
packages=munge,slurmctld,slurmd,slurm-client,python3,procps,iproute2,git,util-linux,libsqlite3-0,libbz2-1.0,libffi8

if [ ! -x "$root/usr/sbin/slurmctld" ]; then
  debootstrap --variant=minbase --include="$packages" "$release" "$root"
fi
cp /etc/hosts "$root/etc/hosts"
[ $# -gt 0 ] || set -- tests/cluster/test_slurm_boundary.py tests/cluster/test_submit_to_slurm.py \
  tests/cluster/test_train_on_slurm.py tests/cluster/test_sweep_array.py
folders=(proc sys dev tmp "$PWD")
# The interpreter of .venv may lie anywhere.
folders+=("$(dirname "$(dirname "$(readlink -f .venv/bin/python)")")")
# shellcheck disable=SC2016
exec unshare --mount --propagation private bash -c '
  set -euo pipefail
  root=$1 here=$2
  shift 2
  while [ "$1" != -- ]; do
    mkdir -p "$root/$1"
    mount --rbind "/${1#/}" "$root/$1"
    shift
  done
  shift
  chroot "$root" slurmctld -V
  exec chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 SOAK="${SOAK:-}" \
    bash -c "cd \"\$0\" && exec .venv/bin/python -m pytest -m slow --timeout 900 \"\$@\"" "$here" "$@"
' newer_slurm "$root" "$PWD" "${folders[@]}" -- "$@"
