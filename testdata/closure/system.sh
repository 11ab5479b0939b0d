# The top level, with the files that a NixOS one has. It has no initrd: isopress packs its own.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
set -e
mkdir -p "$out"
ln -s "$kernel/bzImage" "$out/kernel"
ln -s "$modules" "$out/kernel-modules"
ln -s "$musl" "$out/sw"
printf 'console=tty0 console=ttyS0 loglevel=4 root=LABEL=ISOPRESS' > "$out/kernel-params"
find "$busybox" "$kernel" "$modules" "$musl" -type f -print0 | sort -z | xargs -0 sha256sum > "$out/sha256sums"
cat > "$out/init" <<X
#!$busybox/bin/busybox sh
# PID 1: compare the store's files with their SHA-256, read all others, say so, then power off, or run
# a shell (demo.shell). With demo.unplug, the medium goes away first (any CD, USB stick, SATA or IDE disk).
B=$busybox/bin/busybox
\$B mkdir -p /bin /proc /sys /dev /run /tmp /root /etc
\$B --install -s /bin
export PATH=/bin HOME=/root
[ -e /proc/cmdline ] || mount -t proc proc /proc
[ -e /sys/class ] || mount -t sysfs sys /sys
[ -c /dev/null ] || mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1

dev=\$(awk '\$2 == "/iso" {d = \$1} END {print d ? d : "?"}' /proc/mounts)
if grep -qw demo.unplug /proc/cmdline; then
  for d in /sys/block/s[rd]*/device/delete; do echo 1 > \$d; done
  echo 3 > /proc/sys/vm/drop_caches
fi
if sha256sum -c $out/sha256sums > /run/sums 2>&1 &&
    find /nix/store -type f -exec cat {} + 2>/run/errors >/dev/null && [ ! -s /run/errors ]; then
  n=\$(ls /nix/store | grep -vc '^nix-path-registration\$')
  echo "ISOPRESS-DEMO: \$n store paths mounted from \$dev, hello from \$(uname -r)"
else
  cat /run/sums /run/errors 2>/dev/null | grep -v ': OK\$' | head -n 5
  echo "ISOPRESS-DEMO: FAILED to read the store on \$dev"
fi
if grep -qw demo.shell /proc/cmdline; then setsid -c sh -l; fi
sync
poweroff -f
X
chmod +x "$out/init"
