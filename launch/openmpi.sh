#!/usr/bin/env bash
# Train on the machines of a host file, one process a machine with all its GPUs:
#     launch/openmpi.sh hosts.txt --config=configs/gen1_hmnet.py:b3,tbptt --workdir=/shared/runs/b3
# hosts.txt has a line for each machine: `node1 slots=1`. MPI only starts the processes; they talk through JAX.
# JAXDET_MPI adds arguments of mpirun, for example "--mca btl_tcp_if_include eth0".
set -uo pipefail

hosts=$1
shift
first=$(awk '!/^#/ && NF { print $1; exit }' "$hosts")
# Only processes that know this secret take part; a new one for every job, unless it is set.
export JAXDET_JOB_SECRET=${JAXDET_JOB_SECRET:-$(od -An -vtx1 -N32 /dev/urandom | tr -d ' \n')}
restarts=${JAXDET_RESTARTS:-3}
for attempt in $(seq 0 "$restarts"); do
    [ "$attempt" = 0 ] || echo "launch: restart $attempt of $restarts"
    # A fresh port: the last attempt's may still be closing. Process 0 runs on the first host of the file.
    export JAXDET_COORDINATOR="$first:$((20000 + ($$ + attempt) % 10000))"
    # shellcheck disable=SC2086
    mpirun --hostfile "$hosts" --bind-to none --tag-output ${JAXDET_MPI:-} \
        -x JAXDET_COORDINATOR -x JAXDET_JOB_SECRET -x PATH -x PYTHONPATH -x XLA_FLAGS python -u -m jaxdet.train "$@"
    status=$?
    # 0: done, or told to stop and saved. 1: the input is wrong, and would be again.
    [ "$status" -le 1 ] && exit "$status"
    echo "launch: mpirun ended with status $status"
done
exit "$status"
