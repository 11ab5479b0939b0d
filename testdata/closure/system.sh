# The top level, with the files that a NixOS one has. It has no initrd: isopress packs its own.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
set -e
mkdir -p "$out"
ln -s "$kernel/bzImage" "$out/kernel"
ln -s "$modules" "$out/kernel-modules"
ln -s "$musl" "$out/sw"
printf 'console=tty0 console=ttyS0 loglevel=4 root=LABEL=ISOPRESS' > "$out/kernel-params"
cat > "$out/init" <<X
#!$busybox/bin/busybox sh
# PID 1: read every file of the store, say so, then power off, or run a shell (demo.shell).
B=$busybox/bin/busybox
\$B mkdir -p /bin /proc /sys /dev /run /tmp /root /etc
\$B --install -s /bin
export PATH=/bin HOME=/root
[ -e /proc/cmdline ] || mount -t proc proc /proc
[ -e /sys/class ] || mount -t sysfs sys /sys
[ -c /dev/null ] || mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1

dev=\$(awk '\$2 == "/iso" {d = \$1} END {print d ? d : "?"}' /proc/mounts)
if find /nix/store -type f -exec cat {} + 2>/run/errors >/dev/null && [ ! -s /run/errors ]; then
  n=\$(ls /nix/store | grep -vc '^nix-path-registration\$')
  echo "ISOPRESS-DEMO: \$n store paths mounted from \$dev, hello from \$(uname -r)"
else
  head -n 5 /run/errors
  echo "ISOPRESS-DEMO: FAILED to read the store on \$dev"
fi
if grep -qw demo.shell /proc/cmdline; then setsid -c sh -l; fi
sync
poweroff -f
X
chmod +x "$out/init"
