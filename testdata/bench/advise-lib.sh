# shellcheck shell=bash disable=SC2154 # work, source and isopress are of the script that sources this
# Sourced by advise.sh and advise-guest.sh.

# said CODEC BLOCKSIZE FIELD of the advice.
said() {
  jq --arg c "$1" --argjson b "$(numfmt --from=iec "$2")" \
    ".choices[] | select(.block_size == \$b and (.compression == \$c or .compression == \$c + \":6\")) | .$3" "$work/advice"
}

build() { # build CODEC BLOCKSIZE prints the seconds
  local begin
  begin=$(date +%s.%N)
  "$isopress" squashfs "${source[@]}" --compression "$1" --block-size "$2" --cache off -q -o "$work/image"
  awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }'
}

# working_set [PERCENT] lists the files of a tenth of an image's directories, or another share, by a hash of their paths.
working_set() {
  mount -t squashfs -o ro,loop "$work/image" "$work/mnt"
  (cd "$work/mnt" && find . -type f -printf '%P\0') | python3 -c '
import hashlib, os, sys
for p in sorted(sys.stdin.buffer.read().split(b"\0")[:-1], key=lambda p: p.split(b"/")):
    if hashlib.sha256(os.path.dirname(p)).digest()[0] * 100 < 256 * int(sys.argv[1]) and b"\n" not in p:
        print(os.fsdecode(p))' "${1:-10}" > "$work/list"
  umount "$work/mnt"
  tr '\n' '\0' < "$work/list" > "$work/list0"
}
