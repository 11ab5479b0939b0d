package iso

import (
	"bytes"
	"context"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isopress/isopress/internal/qemu"
	"github.com/isopress/isopress/internal/testenv"
)

// UEFI's statuses.
const (
	efiError             = 1 << 63
	efiLoadError         = efiError | 1
	efiInvalidParameter  = efiError | 2
	efiUnsupported       = efiError | 3
	efiBufferTooSmall    = efiError | 5
	efiDeviceError       = efiError | 7
	efiOutOfResources    = efiError | 9
	efiNotFound          = efiError | 14
	efiAccessDenied      = efiError | 15
	efiAlreadyStarted    = efiError | 20
	efiSecurityViolation = efiError | 26
)

// What statuses mean.
const (
	mayBeDamaged = ". It may be damaged: write the image again"
	littleMemory = ". There is too little memory"
	notSigned    = ". Secure Boot is on and the kernel is not signed: turn it off in the firmware's setup"
)

const keyPrompt = "isopress: press a key to go back to the firmware\r\n"

// uefiWord is the UEFI stub's last word: a step, and a status with what that means.
func uefiWord(text string, status uint64) string {
	return fmt.Sprintf("%s%s (EFI status 0x%016X)\r\n%s", lastWord, text, status, keyPrompt)
}

// Fields of testdata/hostile-uefi.asm.
const (
	hostilePlan     = 0xA00
	hostileCases    = 24
	hostileCase     = 16 + hostileServices*16
	hostileServices = 6
)

// The services that testdata/hostile-uefi.asm takes over.
const (
	handleProtocol = iota
	locateDevicePath
	loadImage
	startImage
	installProtocols
	uninstallProtocols
)

// hook is a service's answer to the stub.
type hook struct {
	call   uint32 // which call is answered, from 1 on
	how    uint32
	status uint64
}

const (
	hookEach = 1 << iota // the later calls are answered, too
	hookDone             // the service does what it is asked to, and then answers so
)

// uefiCases are firmwares that refuse something, with what the stub says to it.
var uefiCases = []struct {
	text   string
	status uint64
	size   uint64 // what the firmware says of the stub's size in memory; 0 is the truth
	hooks  map[int]hook
}{
	{text: "the firmware does not say where the loader lies", status: efiDeviceError, hooks: map[int]hook{
		handleProtocol: {1, 0, efiDeviceError}}},
	// OVMF loads no file of which a section does not lie in its image.
	{text: "the loader's file is damaged: write the image again", status: efiNotFound, size: 0x3000},
	{text: "the firmware does not let the initrd be offered" + littleMemory, status: efiOutOfResources, hooks: map[int]hook{
		installProtocols: {1, 0, efiOutOfResources}}},
	// Somebody offers an initrd, and nobody is there; or it cannot be taken back; or it comes again.
	{text: "the firmware does not let the initrd be offered", status: efiNotFound, hooks: map[int]hook{
		installProtocols: {1, 0, efiAlreadyStarted}}},
	{text: "the firmware does not let the initrd be offered", status: efiUnsupported, hooks: map[int]hook{
		installProtocols: {1, 0, efiAlreadyStarted}, locateDevicePath: {1, 0, 0}, handleProtocol: {2, 0, efiUnsupported}}},
	{text: "the firmware does not let the initrd be offered", status: efiAccessDenied, hooks: map[int]hook{
		installProtocols: {1, 0, efiAlreadyStarted}, locateDevicePath: {1, 0, 0}, handleProtocol: {2, 0, 0}, uninstallProtocols: {1, 0, efiAccessDenied}}},
	{text: "the firmware does not let the initrd be offered", status: efiAlreadyStarted, hooks: map[int]hook{
		installProtocols: {1, hookEach, efiAlreadyStarted}, locateDevicePath: {1, hookEach, 0}, handleProtocol: {2, hookEach, 0}, uninstallProtocols: {1, hookEach, 0}}},
	{text: "the firmware does not load the kernel" + mayBeDamaged, status: efiLoadError, hooks: map[int]hook{
		loadImage: {1, 0, efiLoadError}}},
	{text: "the firmware does not load the kernel" + mayBeDamaged, status: efiInvalidParameter, hooks: map[int]hook{
		loadImage: {1, 0, efiInvalidParameter}}},
	{text: "the firmware does not load the kernel" + notSigned, status: efiAccessDenied, hooks: map[int]hook{
		loadImage: {1, 0, efiAccessDenied}}},
	{text: "the firmware does not load the kernel" + notSigned, status: efiSecurityViolation, hooks: map[int]hook{
		loadImage: {1, hookDone, efiSecurityViolation}}},
	{text: "the firmware does not say where the kernel lies", status: efiDeviceError, hooks: map[int]hook{
		handleProtocol: {2, 0, efiDeviceError}}},
	{text: "the kernel gave up", status: efiNotFound, hooks: map[int]hook{
		startImage: {1, hookDone, efiNotFound}}},
	{text: "the kernel gave up" + mayBeDamaged, status: efiLoadError, hooks: map[int]hook{
		startImage: {1, hookDone, 0}}},
}

// hostileUEFI is a stub that starts another as each of the cases says.
func hostileUEFI(t *testing.T) []byte {
	t.Helper()
	b := assembled(t, "hostile-uefi.asm")
	if len(uefiCases) > hostileCases {
		t.Fatal("the plan is full")
	}
	for i, tt := range uefiCases {
		c := b[hostilePlan+i*hostileCase:][:hostileCase]
		le.PutUint64(c, tt.status)
		le.PutUint64(c[8:], tt.size)
		for service, h := range tt.hooks {
			entry := c[16+16*service:]
			le.PutUint32(entry, h.call)
			le.PutUint32(entry[4:], h.how)
			le.PutUint64(entry[8:], h.status)
		}
	}
	return b
}

const uefiInitrd = mib + 3

// damagedUEFI are changes of an image, with what the stub says to them. The first one is for the
// kernel alone: it boots, and gives up.
var damagedUEFI = []struct {
	text   string
	status uint64
	change func(t *testing.T, path string, r *Result)
}{
	{"the kernel gave up" + littleMemory, efiOutOfResources, func(t *testing.T, path string, r *Result) {}},
	{"the firmware does not load the kernel" + mayBeDamaged, efiUnsupported, func(t *testing.T, path string, r *Result) {
		patch(t, path, r.extent(t, "kernel").Offset+0x280, []byte("pe"))
	}},
	{"the firmware does not load the kernel" + littleMemory, efiOutOfResources, func(t *testing.T, path string, r *Result) {
		patch(t, path, r.extent(t, "kernel").Offset+testImageSize, []byte{0, 0, 0, 0xE0})
	}},
	{"the loader's file is damaged: write the image again", efiNotFound, func(t *testing.T, path string, r *Result) {
		patch(t, path, sectionHeader(t, path, r, ".linux"), []byte(".winux"))
	}},
	{"the command line is longer than 2047 bytes", efiBufferTooSmall, func(t *testing.T, path string, r *Result) {
		patch(t, path, sectionHeader(t, path, r, ".cmdline")+8, []byte{0, 8})
	}},
}

// sectionHeader is where an image has the header of a section of its unified kernel image.
func sectionHeader(t *testing.T, path string, r *Result, name string) int64 {
	t.Helper()
	i := bytes.Index(readAt(t, path, r.EFI[0].Offset, sectorSize), []byte(name))
	if i < 0 {
		t.Fatalf("no section %s", name)
	}
	return r.EFI[0].Offset + int64(i)
}

// A kernel gets its command line and its own initrd, also from a stub that another one has started,
// and of everything that fails one reads why. It is one guest: each stub goes back to the firmware
// at a key, which then boots the next disk.
func TestUEFI(t *testing.T) {
	kernel := testKernel(t, 4096, uefiInitrd)
	le.PutUint64(kernel[testStatus:], efiOutOfResources)
	path, r := stubImage(t, kernel, words(uefiInitrd))
	uki := readPieces(t, path, r.EFI)
	within, _ := stubImage(t, uki, []byte("an initrd for another kernel"))
	c := contents{"kernel": uki}
	hostile, _ := makeImage(t, Options{VolumeID: "HOSTILE", ModTime: testTime, Files: c.files(),
		Boot: &Boot{Kernel: "kernel", EFIStub: hostileUEFI(t)}}, c)

	disks := []string{hostile, within}
	var want []string
	for _, tt := range uefiCases {
		want = append(want, uefiWord(tt.text, tt.status))
	}
	want = append(want, "the plan is done\r\n")
	for i, tt := range damagedUEFI {
		want = append(want, uefiWord(tt.text, tt.status))
		if i > 0 {
			path, r := stubImage(t, kernel, words(uefiInitrd))
			tt.change(t, path, r)
			disks = append(disks, path)
		}
	}
	screen := filepath.Join(t.TempDir(), "screen.png")
	said := bootUEFI(t, qemu.Config{ScreenshotPath: screen}, disks, want)
	contains(t, said, "command line: "+testCmdline+"\r\n", "\nverified: initrd and command line\r\n")
	if err := onScreen(screen, lastWord+"the command line", 8, 19); err != nil {
		t.Error(err)
	}
}

// Where Secure Boot is on, a signed stub starts a kernel that is signed, and says of another what is
// wrong with it. The keys are those that Debian's OVMF has for tests.
func TestUEFISecureBoot(t *testing.T) {
	const ovmf, vars, key = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd", "/usr/share/ovmf/PkKek-1-snakeoil"
	if testing.Short() {
		t.Skip("OVMF takes its time")
	}
	for _, name := range []string{ovmf, vars, key + ".key"} {
		if _, err := os.Stat(name); err != nil {
			testenv.Missing(t, "%v", err)
		}
	}
	dir := t.TempDir()
	for name, file := range map[string]string{"OVMF_CODE_4M.fd": ovmf, "OVMF_VARS_4M.fd": vars} {
		if err := os.Symlink(file, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	open := filepath.Join(dir, "key")
	run(t, "openssl", "pkey", "-in", key+".key", "-passin", "pass:snakeoil", "-out", open)
	sign := func(b []byte) []byte {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "sbsign", "--key", open, "--cert", key+".pem", "--output", file, file)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	kernel := testKernel(t, 0, uefiInitrd)
	le.PutUint64(kernel[testStatus:], efiNotFound)
	var disks []string
	for _, kernel := range [][]byte{kernel, sign(kernel)} {
		path, r := stubImage(t, kernel, words(uefiInitrd))
		disks = append(disks, bootDisk(t, sign(readPieces(t, path, r.EFI))))
	}
	bootUEFI(t, qemu.Config{OVMF: dir}, disks, []string{
		uefiWord("the firmware does not load the kernel"+notSigned, efiAccessDenied),
		"verified: initrd and command line\r\n",
		uefiWord("the kernel gave up", efiNotFound),
	})
}

// bootDisk is a disk from which UEFI starts a program.
func bootDisk(t *testing.T, program []byte) string {
	t.Helper()
	dir := t.TempDir()
	disk, file := filepath.Join(dir, "disk"), filepath.Join(dir, "file")
	if err := os.WriteFile(file, program, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "mformat", "-i", disk, "-C", "-T", "16384", "::")
	run(t, "mmd", "-i", disk, "::/EFI", "::/EFI/BOOT")
	run(t, "mcopy", "-i", disk, file, "::/EFI/BOOT/BOOTX64.EFI")
	return disk
}

// bootUEFI boots disks, the next one when one has given up, and wants them to say something, the last
// of which is a last word. It returns all that was said.
func bootUEFI(t *testing.T, c qemu.Config, disks, want []string) string {
	t.Helper()
	testenv.NeedTool(t, "qemu-system-x86_64")
	if testing.Short() {
		t.Skip("OVMF takes its time")
	}
	for i, disk := range disks[1:] {
		c.Extra = append(c.Extra, "-drive", fmt.Sprintf("if=none,id=d%d,format=raw,readonly=on,file=%s", i, disk),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=d%d,bootindex=%d", i, i+1))
	}
	// qemu.Run would end at the first last word.
	const quiet = "isopress: (stops) "
	c.QEMU = filepath.Join(t.TempDir(), "qemu")
	script := fmt.Sprintf("#!/bin/sh\nqemu-system-x86_64 \"$@\" | sed -u 's/%s/%s/'\n", lastWord, quiet)
	if err := os.WriteFile(c.QEMU, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	keyboard, keys := io.Pipe()
	defer keys.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	console := &pressing{keys: keys}
	c.Image, c.Firmware, c.Attach, c.Memory = disks[0], qemu.UEFI, qemu.Virtio, 256*mib
	c.Stdin, c.Console = keyboard, console
	want = slices.Clone(want)
	for i := range want {
		want[i] = strings.Replace(want[i], lastWord, quiet, 1)
	}
	last, _, _ := strings.Cut(want[len(want)-1], "\r") // where the run ends
	want[len(want)-1] = last
	c.Expect = regexp.MustCompile(regexp.QuoteMeta(last))
	_, err := qemu.Run(ctx, c)
	if errors.As(err, new(*qemu.NotFoundError)) {
		testenv.Missing(t, "%v", err)
	}
	said := console.all.String()
	if err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	rest := said
	for _, w := range want {
		_, after, found := strings.Cut(rest, w)
		if !found {
			t.Fatalf("nobody said %q in its turn:\n%s", w, said)
		}
		rest = after
	}
	if strings.Contains(said, "FAILED") {
		t.Errorf("something failed:\n%s", said)
	}
	return said
}

// The stub says that it can do without memory that is both written to and run, and so it can.
func TestUEFINX(t *testing.T) {
	f, err := pe.NewFile(bytes.NewReader(uefiStub))
	if err != nil {
		t.Fatal(err)
	}
	h := f.OptionalHeader.(*pe.OptionalHeader64)
	if h.DllCharacteristics != pe.IMAGE_DLLCHARACTERISTICS_NX_COMPAT || h.SectionAlignment != peVirtualAlign {
		t.Errorf("DllCharacteristics %#x, SectionAlignment %#x", h.DllCharacteristics, h.SectionAlignment)
	}
	end := h.SizeOfHeaders
	for _, s := range f.Sections {
		const both = pe.IMAGE_SCN_MEM_WRITE | pe.IMAGE_SCN_MEM_EXECUTE
		if s.Characteristics&both == both || s.VirtualAddress%peVirtualAlign != 0 || s.VirtualAddress < end {
			t.Errorf("%s: characteristics %#x, at %#x, the one before ends at %#x", s.Name, s.Characteristics, s.VirtualAddress, end)
		}
		end = s.VirtualAddress + s.VirtualSize
	}
	if h.SizeOfImage < end {
		t.Errorf("SizeOfImage %#x, sections end at %#x", h.SizeOfImage, end)
	}
}

// pressing presses a key each time it is asked to.
type pressing struct {
	all  bytes.Buffer
	keys io.Writer
	done int
}

func (p *pressing) Write(b []byte) (int, error) {
	p.all.Write(b)
	if n := bytes.Count(p.all.Bytes(), []byte(keyPrompt)); n > p.done {
		p.done = n
		go p.keys.Write([]byte(" ")) // the test's end ends it
	}
	return len(b), nil
}
