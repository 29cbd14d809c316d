#!/usr/bin/env bash
# One training on two nodes of eight GPUs each. All nodes see this folder.
#   sbatch examples/slurm.sh
# Stopped by Slurm, the processes save and end; the job is queued again and goes on from there.
#SBATCH --job-name=jepalm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

export JEPALM_RUNS="${JEPALM_RUNS:-runs/slurm-$SLURM_JOB_ID}"
what=(--config examples/configs/openwebtext-1b.yaml)
if [ -e "$JEPALM_RUNS/latest" ]; then
  what=(--resume "$JEPALM_RUNS/latest")
fi
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes="$SLURM_NNODES" --nproc-per-node=8 \
  --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$first:29500" \
  -m jepalm train "${what[@]}"
