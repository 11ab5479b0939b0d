# One derivation a Debian package, and the top level. `debs` holds busybox.deb, musl.deb, kernel.deb.
{ debs }:
let
  deb = name: builtins.path { name = "${name}.deb"; path = debs + "/${name}.deb"; };
  run = name: script: env: derivation (env // {
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ script ];
  });
in
rec {
  musl = run "musl" ./unpack.sh { src = deb "musl"; };
  busybox = run "busybox-static" ./unpack.sh { src = deb "busybox"; };
  kernel = run "linux" ./kernel.sh { src = deb "kernel"; };
  modules = run "linux-modules" ./modules.sh { src = deb "kernel"; };
  system = run "isopress-demo" ./system.sh { inherit musl busybox kernel modules; };
}.system
