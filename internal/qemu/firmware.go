package qemu

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// firmwareFiles are OVMF's code and a private copy of its variables; empty for BIOS.
type firmwareFiles struct{ code, vars string }

// ovmfNames are the pairs of code and variables that distributions ship, those for 4 MiB of flash first.
var ovmfNames = []firmwareFiles{
	{"OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"},                 // Debian
	{"OVMF_CODE.4m.fd", "OVMF_VARS.4m.fd"},                 // Arch
	{"OVMF_CODE_4M.qcow2", "OVMF_VARS_4M.qcow2"},           // Fedora
	{"OVMF_CODE.fd", "OVMF_VARS.fd"},                       // NixOS, older others
	{"ovmf-x86_64-4m-code.bin", "ovmf-x86_64-4m-vars.bin"}, // openSUSE
	{"edk2-x86_64-code.fd", "edk2-i386-vars.fd"},           // QEMU's own
	{"edk2-x86_64-code.fd", "edk2-x86_64-vars.fd"},         // NixOS's libvirt
}

// ovmfDirs are the directories that distributions put them in.
var ovmfDirs = []string{
	"/usr/share/OVMF",           // Debian
	"/usr/share/edk2/ovmf",      // Fedora
	"/usr/share/edk2/x64",       // Arch
	"/usr/share/edk2-ovmf/x64",  // older Arch
	"/usr/share/edk2-ovmf",      // Gentoo
	"/usr/share/qemu",           // openSUSE; QEMU's own
	"/run/libvirt/nix-ovmf",     // NixOS with libvirt
	"/run/current-system/sw/FV", // NixOS with OVMF.fd
	"/usr/local/share/qemu",
}

// findOVMF returns the first pair found: under where (a directory, one with an FV in it as in NixOS's
// OVMF.fd, or the code's file), else in the distributions' places and beside the emulator.
func findOVMF(where, emulator string) (firmwareFiles, error) {
	dirs := append(ovmfDirs[:len(ovmfDirs):len(ovmfDirs)], besideEmulator(emulator))
	if where != "" {
		if pair, ok := pairOfFile(where); ok {
			return pair, nil
		}
		dirs = []string{where, filepath.Join(where, "FV")}
	}
	for _, dir := range dirs {
		for _, n := range ovmfNames {
			pair := firmwareFiles{filepath.Join(dir, n.code), filepath.Join(dir, n.vars)}
			if isFile(pair.code) && isFile(pair.vars) {
				return pair, nil
			}
		}
	}
	return firmwareFiles{}, &NotFoundError{"OVMF, the UEFI firmware,", strings.Join(dirs, ", "), "ovmf"}
}

// pairOfFile finds the variables that belong to a code file by its name.
func pairOfFile(code string) (firmwareFiles, bool) {
	dir, name := filepath.Split(code)
	for _, r := range [][2]string{{"CODE", "VARS"}, {"code", "vars"}, {"x86_64-code", "i386-vars"}} {
		vars := filepath.Join(dir, strings.Replace(name, r[0], r[1], 1))
		if vars != filepath.Clean(code) && isFile(code) && isFile(vars) {
			return firmwareFiles{code, vars}, true
		}
	}
	return firmwareFiles{}, false
}

// besideEmulator is ../share/qemu of the emulator's real place: in the Nix store, nowhere else.
func besideEmulator(emulator string) string {
	real, err := filepath.EvalSymlinks(emulator)
	if err != nil {
		real = emulator
	}
	return filepath.Join(filepath.Dir(filepath.Dir(real)), "share", "qemu")
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}

// prepare copies the variables to dir, since the guest writes them.
func (f firmwareFiles) prepare(dir string) (firmwareFiles, error) {
	if f.code == "" {
		return f, nil
	}
	vars := filepath.Join(dir, "vars"+filepath.Ext(f.vars))
	if err := copyFile(vars, f.vars); err != nil {
		return f, fmt.Errorf("qemu: copying OVMF's variables: %w", err)
	}
	code, err := filepath.Abs(f.code)
	return firmwareFiles{code, vars}, err
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func (f firmwareFiles) args() []string {
	if f.code == "" {
		return nil
	}
	flash := func(unit int, path, access string) string {
		format := "raw"
		if filepath.Ext(path) == ".qcow2" {
			format = "qcow2"
		}
		return fmt.Sprintf("if=pflash,unit=%d,format=%s,%sfile=%s", unit, format, access, escape(path))
	}
	return []string{
		"-drive", flash(0, f.code, "readonly=on,file.locking=off,"),
		"-drive", flash(1, f.vars, ""),
	}
}
