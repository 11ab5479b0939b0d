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
	"strings"
	"testing"
	"time"

	"github.com/isopress/isopress/internal/qemu"
	"github.com/isopress/isopress/internal/testenv"
)

const (
	efiError          = 1 << 63
	efiOutOfResources = efiError | 9
	keyPrompt         = "press a key to go back to the firmware"
)

// A kernel gets its command line and its own initrd, also from a stub that another one has started,
// and of everything that fails one reads why. It is one guest: each stub goes back to the firmware
// at a key, which then boots the next disk.
func TestUEFI(t *testing.T) {
	testenv.NeedTool(t, "qemu-system-x86_64")
	if testing.Short() {
		t.Skip("OVMF takes its time")
	}
	const initrd = mib + 3
	kernel := testKernel(t, 4096, initrd)
	le.PutUint64(kernel[testStatus:], efiOutOfResources)
	path, r := stubImage(t, kernel, words(initrd))
	within, _ := stubImage(t, readPieces(t, path, r.EFI), []byte("an initrd for another kernel"))
	header := func(r *Result, name string) int64 { // of a section
		i := bytes.Index(readAt(t, path, r.EFI[0].Offset, sectorSize), []byte(name))
		if i < 0 {
			t.Fatalf("no section %s", name)
		}
		return r.EFI[0].Offset + int64(i)
	}
	broken := func(change func(path string, r *Result)) string {
		path, r := stubImage(t, kernel, words(initrd))
		change(path, r)
		return path
	}
	tests := []struct{ image, want string }{
		{within, "the kernel gave up. There is too little memory (EFI status 0x8000000000000009)"},
		{broken(func(path string, r *Result) {
			patch(t, path, r.extent(t, "kernel").Offset+0x280, []byte("pe"))
		}), "the firmware does not load the kernel. It may be damaged: write the image again (EFI status 0x8000000000000003)"},
		{broken(func(path string, r *Result) {
			patch(t, path, r.extent(t, "kernel").Offset+testImageSize, []byte{0, 0, 0, 0xE0})
		}), "the firmware does not load the kernel. There is too little memory (EFI status 0x8000000000000009)"},
		{broken(func(path string, r *Result) {
			patch(t, path, header(r, ".linux"), []byte(".winux"))
		}), "the loader's file is damaged: write the image again (EFI status 0x800000000000000E)"},
		{broken(func(path string, r *Result) {
			patch(t, path, header(r, ".cmdline")+8, []byte{0, 8})
		}), "the command line is longer than 2047 bytes (EFI status 0x8000000000000005)"},
	}
	var extra []string
	for i, tt := range tests[1:] {
		extra = append(extra, "-drive", fmt.Sprintf("if=none,id=d%d,format=raw,readonly=on,file=%s", i, tt.image),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=d%d,bootindex=%d", i, i+1))
	}
	// qemu.Run would end at the first of them.
	const quiet = "isopress: (stops) "
	emulator := filepath.Join(t.TempDir(), "qemu")
	script := fmt.Sprintf("#!/bin/sh\nqemu-system-x86_64 \"$@\" | sed -u 's/%s/%s/'\n", lastWord, quiet)
	if err := os.WriteFile(emulator, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	keyboard, keys := io.Pipe()
	defer keys.Close()
	screen := filepath.Join(t.TempDir(), "screen.png")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	console := &pressing{keys: keys}
	last := tests[len(tests)-1].want
	got, err := qemu.Run(ctx, qemu.Config{
		Image: tests[0].image, Firmware: qemu.UEFI, Attach: qemu.Virtio, Memory: 256 * mib,
		QEMU: emulator, Extra: extra,
		Stdin: keyboard, Console: console, ScreenshotPath: screen,
		Expect: regexp.MustCompile(regexp.QuoteMeta(last)),
	})
	if errors.As(err, new(*qemu.NotFoundError)) {
		testenv.Missing(t, "%v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, got.Tail)
	}
	said := console.all.String()
	for _, tt := range tests {
		if !strings.Contains(said, quiet+tt.want) {
			t.Errorf("nobody said %q", tt.want)
		}
	}
	contains(t, said, "command line: "+testCmdline+"\r\n", "\nverified: initrd and command line\r\n")
	if t.Failed() {
		t.Logf("%s", got.Tail)
	}
	if err := onScreen(screen, lastWord+"the command line", 8, 19); err != nil {
		t.Error(err)
	}
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
	if n := strings.Count(p.all.String(), keyPrompt); n > p.done {
		p.done = n
		go p.keys.Write([]byte(" ")) // the test's end ends it
	}
	return len(b), nil
}
