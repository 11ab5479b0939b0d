//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/isopress/isopress/builder"
	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/internal/qemu"
	"github.com/isopress/isopress/internal/testenv"
)

// What of the test's closure is not of testdata/make-closure.
const (
	grubSystem = nix.StoreDir + "/c7rxzf9swawqx7ijzb5rprvp7lr6z3nf-system"
	grubRoad   = nix.StoreDir + "/fkh0kbpqw8gl51jvniq78qgggcajiy5r-system-road"
	grubInitrd = nix.StoreDir + "/gbj06m36nicdf2apg6hlglqq4518id8b-initrd"
	grubKernel = nix.StoreDir + "/9krlzvny65gdc8s7kpb6lkx8cd02c25b-other-linux"
)

// Parameters that GRUB's script language could take for its own, and as the kernel sees them.
const (
	nastyParams = `h=$HOME x=${y} {z} #n a;b p|q &r <i >o *k ?l [m] [[ ]] ~t (u) !w ` + "`c`" + ` if then fi w="two  words"`
	nastySeen   = `h=$HOME x=${y} {z} #n a;b p|q &r <i >o *k ?l [m] [[ ]] ~t (u) !w ` + "`c`" + ` if then fi "w=two  words"`
)

// grubClosure makes a store root with a system whose kernel and initrd are store
// paths, as NixOS's are, and with a specialisation that has another kernel.
func grubClosure(t *testing.T) (args []string) {
	t.Helper()
	c := testenv.Closure(t)
	root := t.TempDir()
	store := filepath.Join(root, nix.StoreDir)
	if err := os.MkdirAll(store, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "cp", append([]string{"-r", "-d", "-t", store}, c.Paths(t)...)...)
	kernel, err := filepath.EvalSymlinks(c.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{grubSystem, grubRoad, grubInitrd, grubKernel} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "cp", kernel, filepath.Join(root, grubKernel, "bzImage"))
	press(t, "initrd", "--kernel-modules", c.Modules, "-o", filepath.Join(root, grubInitrd, "initrd"))
	writeBootspec(t, filepath.Join(root, grubSystem, "boot.json"), kernel, filepath.Join(c.System, "init"))
	list := filepath.Join(root, "store-paths")
	paths := append(c.Paths(t), grubSystem, grubRoad, grubInitrd, grubKernel)
	if err := os.WriteFile(list, []byte(strings.Join(paths, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return []string{"build", "--closure", list, "--store-root", root, "--system", grubSystem, "--boot-loader", "grub"}
}

func writeBootspec(t *testing.T, name, kernel, init string) {
	t.Helper()
	const spec, specs = "org.nixos.bootspec.v1", "org.nixos.specialisation.v1"
	params := []string{`"root=LABEL=-x $DISK;{1}"`, "console=tty0", "console=ttyS0", "loglevel=6"}
	system := map[string]any{"kernel": kernel, "kernelParams": params, "init": init, "toplevel": grubSystem,
		"initrd": grubInitrd + "/initrd", "label": "It's $HOME {1}"}
	road := map[string]any{"kernel": grubKernel + "/bzImage", "kernelParams": append(params, "on.the=road"), "init": init,
		"toplevel": grubRoad, "initrd": grubInitrd + "/initrd", "label": "It's $HOME {1}"}
	text, err := json.Marshal(map[string]any{spec: system, specs: map[string]any{"on the 'road'": map[string]any{spec: road}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// typist is a console that types keys, once, when the guest has said what it waits for.
type typist struct {
	bytes.Buffer
	after string
	keys  string
	stdin *io.PipeWriter
}

func (w *typist) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if w.keys != "" && bytes.Contains(w.Bytes(), []byte(w.after)) {
		keys := w.keys
		w.keys = ""
		go io.WriteString(w.stdin, keys) // a guest that does not read it fails the test otherwise
	}
	return n, err
}

// GRUB starts the system from CD and disk, under both firmwares, and whatever entry
// is chosen over the serial line. (Under UEFI, GRUB 2.06 has no room for this kernel in 256 MiB.)
func TestGRUBBoots(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64", "grub-mkimage")
	image := filepath.Join(t.TempDir(), "grub.iso")
	r := press(t, append(grubClosure(t), "--cmdline", nastyParams, "-o", image)...)
	checkGRUBManifest(t, r)
	const down = "\x0e" // Ctrl-N
	seen := func(cmdline string) string { return strings.ReplaceAll(cmdline, nastyParams, nastySeen) }
	system := "/boot/kernel " + seen(r.Boot.Cmdline)
	road := r.Boot.Specialisations[0]
	for _, tc := range []struct {
		firmware qemu.Firmware
		attach   qemu.Attach
		keys     string
		cmdline  string
	}{
		{qemu.BIOS, qemu.CDROM, "", system},
		{qemu.BIOS, qemu.Virtio, down + down + "\r", system + " copytoram"},
		{qemu.UEFI, qemu.CDROM, "", system},
		{qemu.UEFI, qemu.Virtio, strings.Repeat(down, 4) + "\r", "/" + road.Kernel + " " + seen(road.Cmdline)},
	} {
		t.Run(string(tc.firmware)+" "+string(tc.attach), func(t *testing.T) {
			stdin, keys := io.Pipe()
			console := &typist{after: "executed automatically", keys: tc.keys, stdin: keys}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			res, err := qemu.Run(ctx, qemu.Config{Image: image, Firmware: tc.firmware, Attach: tc.attach, Memory: 512 << 20,
				Stdin: stdin, Console: console, Expect: regexp.MustCompile("^ISOPRESS-DEMO: [0-9]+ store paths")})
			if err != nil {
				t.Fatalf("%v; the console ends with:\n%s", err, res.Tail)
			}
			if want := "Kernel command line: BOOT_IMAGE=" + tc.cmdline + "\r\n"; !strings.Contains(console.String(), want) {
				t.Errorf("no %q on the console, which ends with:\n%s", want, res.Tail)
			}
		})
	}
}

func checkGRUBManifest(t *testing.T, r *builder.Result) {
	t.Helper()
	g := r.Boot.GRUB
	if len(r.Boot.Specialisations) != 1 {
		t.Fatalf("specialisations: %+v", r.Boot.Specialisations)
	}
	if g == nil || g.BIOS.Version == "" || len(g.BIOS.MBRSHA256) != 64 || len(g.BIOS.SHA256) != 64 || len(g.EFI.SHA256) != 64 {
		t.Errorf("the manifest says of GRUB: %+v", g)
	}
}
