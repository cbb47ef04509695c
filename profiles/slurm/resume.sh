#!/usr/bin/env bash
# After snakemake itself was killed: cancel the jobs that it left in the queue, wait until they are gone, unlock, go on.
# usage: profiles/slurm/resume.sh [PROFILE [SNAKEMAKE OPTION...]]      from the project's folder (make resume-slurm)
# Only jobs of this folder whose names begin with the profile's slurm-jobname-prefix are touched.
set -euo pipefail
profile=${1:-profiles/slurm}
shift || true
folder=$(pwd -P)
prefix=$(sed -n 's/^slurm-jobname-prefix: *\([^ #]*\).*/\1/p' "$profile/profile.yaml")
: "${prefix:?$profile/profile.yaml names no slurm-jobname-prefix}"

running_here() { # snakemake in this folder that is not itself inside a job
	local process
	for process in /proc/[0-9]*; do
		[ "$(readlink "$process/cwd" 2>/dev/null)" = "$folder" ] || continue
		tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -qE '(bin/|-m )snakemake ' || continue
		grep -qz '^SLURM_JOB_ID=' "$process/environ" 2>/dev/null || echo "${process#/proc/}"
	done
}
controller=$(running_here)
if [ -n "$controller" ]; then
	echo "error: snakemake still runs in this folder (process $controller); stop it first" >&2
	exit 1
fi

jobs_left() { squeue --me --noheader --format '%i|%j|%Z' | awk -F '|' -v p="${prefix}_" -v d="$folder" 'index($2, p) == 1 && $3 == d {print $1}'; }

orphans=$(jobs_left)
if [ -n "$orphans" ]; then
	echo "cancelling $(wc -l <<<"$orphans") job(s) of $folder: $(tr '\n' ' ' <<<"$orphans")"
	xargs scancel <<<"$orphans"
fi
for ((waited = 0; waited < 300; waited += 2)); do
	[ -n "$(jobs_left)" ] || break
	sleep 2
done
if [ -n "$(jobs_left)" ]; then
	echo "error: jobs $(jobs_left | tr '\n' ' ') do not end; see squeue, and run this again when they are gone" >&2
	exit 1
fi
snakemake --workflow-profile "$profile" --unlock "$@"
exec snakemake --workflow-profile "$profile" "$@"
