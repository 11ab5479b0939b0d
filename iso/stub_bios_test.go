package iso

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/isopress/isopress/internal/qemu"
	"github.com/isopress/isopress/internal/testenv"
)

// Fields of testdata/hostile.asm.
const (
	hostileLBA      = 0x1B0
	hostileFill     = 0x204
	hostileMap      = 0x244
	hostileMapEntry = 28
	hostileFlags    = 0x404
	hostileLow      = 0x408
	hostileCount    = 0x40A
	hostileEach     = 0x40C
	hostileFailLBA  = 0x40E
	hostileChain    = 15 * blockSize
)

// The ways in which testdata/hostile.asm makes a BIOS worse.
const (
	noE820 = 1 << iota
	smapOnce
	carryEnd
	clobber
	stuckA20
	noEDD
	endless
	chain
)

// e820 is an entry of the BIOS's memory map. Extended ones are of 24 bytes.
type e820 struct {
	base, size uint64
	kind       uint32
	extended   bool
}

// hostile describes a BIOS.
type hostile struct {
	flags   uint32
	ram     []e820
	low     uint16 // KiB
	most    uint16 // sectors a read
	each    uint16 // one read of so many fails
	failLBA uint32 // reads from here on fail
}

const mib = 1 << 20

// guarded is what is filled ahead of the loader, and must still be so where it loaded nothing.
var guarded = [][2]uint32{{0x30000, 0x90000}, {1 * mib, 88 * mib}}

// apply makes an image's first sectors a boot sector with such a BIOS.
func (h hostile) apply(t *testing.T, path string) {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b := assembled(t, "hostile.asm")
	copy(b[hostileLBA:][:8], image[mbrStage2:])
	copy(b[hostileChain:], image[:blockSize])
	for i, g := range guarded {
		le.PutUint32(b[hostileFill+8*i:], g[0])
		le.PutUint32(b[hostileFill+8*i+4:], g[1])
	}
	for i, e := range h.ram {
		entry := b[hostileMap+i*hostileMapEntry:]
		le.PutUint16(entry, 20)
		le.PutUint64(entry[4:], e.base)
		le.PutUint64(entry[12:], e.size)
		le.PutUint32(entry[20:], e.kind)
		if e.extended {
			le.PutUint16(entry, 24)
			le.PutUint32(entry[24:], 0) // "ignore", which too many BIOSes say of everything
		}
	}
	le.PutUint32(b[hostileFlags:], h.flags)
	le.PutUint16(b[hostileLow:], h.low)
	le.PutUint16(b[hostileCount:], h.most)
	le.PutUint16(b[hostileEach:], h.each)
	le.PutUint32(b[hostileFailLBA:], h.failLBA)
	patch(t, path, 0, b)
}

// ordinary is a memory map without surprises.
var ordinary = []e820{{0, 0x9FC00, 1, false}, {0x9FC00, 0x400, 2, false}, {1 * mib, 63 * mib, 1, false}, {0xFFFC0000, 0x40000, 2, false}}

// biosOutcome is what ends a test's guest.
var biosOutcome = regexp.MustCompile(`^(verified: .*|FAILED: .*|isopress: THE BOOT STOPS HERE: .*)`)

// bootBIOS boots an image and compares its outcome with a regular expression.
func bootBIOS(t *testing.T, c qemu.Config, want string) {
	t.Helper()
	testenv.NeedTool(t, "qemu-system-x86_64")
	if testing.Short() {
		t.Skip("QEMU takes its time")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if c.Memory == 0 {
		c.Memory = 96 * mib
	}
	c.Accel = qemu.TCG // KVM has no A20, and no breakpoints on ports
	c.Expect = biosOutcome
	got, err := qemu.Run(ctx, c)
	if err != nil || !regexp.MustCompile("^"+want+"$").MatchString(got.Line) {
		t.Errorf("got %q, %v, want %q\n%s", got.Line, err, want, got.Tail)
	}
	if strings.HasPrefix(want, "verified") && !strings.Contains(got.Tail, "command line: "+testCmdline+"\n") {
		t.Errorf("another command line:\n%s", got.Tail)
	}
}

const lastWord = "isopress: THE BOOT STOPS HERE: "

// biosCases are BIOSes, what they load and what becomes of it.
var biosCases = []struct {
	name            string
	payload, initrd int
	bios            hostile
	want            string
}{
	{"plain", 3*mib + 1, mib + 3, hostile{ram: ordinary},
		"verified: kernel at 01000000, initrd at 03EFF000"},
	{"no initrd", 100, 0, hostile{ram: ordinary},
		"verified: kernel at 01000000, initrd at 00000000"},
	{"whole buffers", 64<<10 - testSetup, 64 << 10, hostile{ram: ordinary},
		"verified: kernel at 01000000, initrd at 03FF0000"},
	{"a byte more", 64<<10 - testSetup + 1, 64<<10 + 1, hostile{ram: ordinary},
		"verified: kernel at 01000000, initrd at 03FEF000"},
	{"a byte", 1, 1, hostile{ram: ordinary},
		"verified: kernel at 01000000, initrd at 03FFF000"},
	{"the worst BIOS", mib + 2, mib, hostile{
		flags: clobber | carryEnd, most: 8, each: 3,
		ram: []e820{
			{0x100000000, 1 << 30, 1, true}, {0xFFFC0000, 0x40000, 2, true},
			{40*mib - 100, mib + 200, 1, true}, // the highest, not of whole pages
			{1 * mib, 39 * mib, 1, true}, {60 * mib, 0, 1, true}, {0, 0x9FC00, 1, true},
		}},
		"verified: kernel at 01000000, initrd at 02800000"},
	{"overlapping ranges", 4096, 4 * mib, hostile{flags: endless, ram: []e820{
		{1 * mib, 63 * mib, 1, false}, {62*mib + 1, 8, 2, false}, {58*mib + 4095, 2, 20, false}, {0x80000000, 0x80000000, 2, false}}},
		"verified: kernel at 01000000, initrd at 03600000"},
	{"the initrd just fits", mib, 2*mib + 4096, hostile{ram: []e820{{1 * mib, mib, 1, false}, {16 * mib, 10*mib + 4096, 1, false}}},
		"verified: kernel at 01000000, initrd at 01800000"},
	{"the initrd just does not", mib, 2*mib + 4097, hostile{ram: []e820{{1 * mib, mib, 1, false}, {16 * mib, 10*mib + 4096, 1, false}}},
		lastWord + "too little memory: the initrd needs 3 MiB in one piece"},
	{"only below the kernel", mib, 2 * mib, hostile{ram: []e820{{1 * mib, 3 * mib, 1, false}, {16 * mib, 8 * mib, 1, false}}},
		"verified: kernel at 01000000, initrd at 00200000"},
	{"the kernel's place is taken", mib, mib, hostile{ram: []e820{{1 * mib, 63 * mib, 1, false}, {17 * mib, 1, 2, false}}},
		"verified: kernel at 03800000, initrd at 03700000"},
	{"no place for the kernel", mib, mib, hostile{ram: []e820{{1 * mib, 22 * mib, 1, false}}},
		lastWord + "too little memory: the kernel needs 8 MiB in one piece"},
	{"no memory map", mib, mib, hostile{flags: noE820},
		lastWord + "no memory map (E820) from this BIOS: boot by UEFI"},
	{"half a memory map", mib, mib, hostile{flags: smapOnce, ram: ordinary},
		lastWord + "too little memory: the kernel needs 8 MiB in one piece"},
	{"little low memory", mib, mib, hostile{low: 191, ram: ordinary},
		lastWord + "too little memory below 640 KiB: turn network boot off"},
	{"A20", mib, mib, hostile{flags: stuckA20, ram: ordinary},
		lastWord + `A20 stays off: see "Gate A20" in the BIOS setup`},
	{"no EDD", mib, mib, hostile{flags: chain | noEDD},
		lastWord + "no EDD in BIOS: boot as USB-HDD or by UEFI"},
	{"nothing can be read", mib, mib, hostile{flags: chain, failLBA: 1},
		lastWord + "cannot read the disk: write the image again or to another"},
	{"the kernel cannot be read", mib, mib, hostile{failLBA: 1, ram: ordinary},
		lastWord + "cannot read: write the image again or to another medium. BIOS error 11, sector "},
}

// Whatever the BIOS does, the loader puts kernel and initrd where there is memory and writes nowhere else.
func TestBIOSLoads(t *testing.T) {
	for _, tt := range biosCases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path, _ := stubImage(t, testKernel(t, tt.payload, tt.initrd), words(tt.initrd))
			tt.bios.apply(t, path)
			if strings.HasSuffix(tt.want, "sector ") { // the command line is read first
				loader := int64(le.Uint64(readAt(t, path, hostileLBA, 8))) * blockSize
				tt.want += fmt.Sprintf("%08X", le.Uint32(readAt(t, path, loader+stage2Parameters+16, 4)))
			}
			bootBIOS(t, qemu.Config{Image: path, Attach: qemu.IDE}, regexp.QuoteMeta(tt.want))
		})
	}
}

// deviceCases are images that are changed before they boot.
var deviceCases = []struct {
	name   string
	change func(t *testing.T, path string, r *Result)
	c      qemu.Config
	want   string // a regular expression; one that ends with "sector " is shown the kernel's
}{
	{"CD without COM1", func(t *testing.T, path string, r *Result) {
		patch(t, path, r.extent(t, "kernel").Offset+testPort, []byte{0xF8, 0x02})
	}, qemu.Config{Attach: qemu.AHCI, Extra: []string{"-global", "isa-serial.iobase=0x2f8"}}, verifiedBIOS + "05[D-F][0-9A-F]{5}"},
	{"initrd below 2 GiB", func(t *testing.T, path string, r *Result) {},
		qemu.Config{Attach: qemu.CDROM, Memory: 3000 * mib}, verifiedBIOS + "7FF00000"},
	{"initrd above 2 GiB", func(t *testing.T, path string, r *Result) {
		patch(t, path, r.extent(t, "kernel").Offset+setupInitrdMax, []byte{0xFF, 0xFF, 0xFF, 0xFF})
	}, qemu.Config{Attach: qemu.CDROM, Memory: 3000 * mib}, verifiedBIOS + "BB[67][0-9A-F]{5}"},
	{"initrd of the largest size", func(t *testing.T, path string, r *Result) {
		kernel := r.extent(t, "kernel")
		patch(t, path, kernel.Offset+setupPrefAddress, []byte{0, 0, 0x20, 0}) // 2 MiB
		patch(t, path, kernel.Offset+setupInitrdMax, []byte{0xFF, 0xFF, 0xAF, 0})
		if most, err := MaxInitrd(bytes.NewReader(readAt(t, path, kernel.Offset, testSetup))); err != nil || most != mib {
			t.Errorf("MaxInitrd: %d, %v", most, err)
		}
	}, qemu.Config{Attach: qemu.CDROM}, "verified: kernel at 00200000, initrd at 00A00000"},
	{"a medium that ends too soon", func(t *testing.T, path string, r *Result) {
		if err := os.Truncate(path, r.extent(t, "kernel").Offset&^(1<<16-1)); err != nil {
			t.Fatal(err)
		}
	}, qemu.Config{Attach: qemu.CDROM}, lastWord + "cannot read: write the image again or to another medium. BIOS error [0-9A-F]{2}, sector "},
	{"a damaged kernel", func(t *testing.T, path string, r *Result) {
		patch(t, path, r.extent(t, "kernel").Offset+setupHeader, []byte{'h'})
	}, qemu.Config{Attach: qemu.Virtio}, lastWord + "the kernel is damaged or too old: write the image again"},
	{"an old kernel", func(t *testing.T, path string, r *Result) {
		patch(t, path, r.extent(t, "kernel").Offset+setupVersion, []byte{9})
	}, qemu.Config{Attach: qemu.USB}, lastWord + "the kernel is damaged or too old: write the image again"},
	{"an image that lies elsewhere", func(t *testing.T, path string, r *Result) {
		patch(t, path, mbrStage2, []byte{1, 0, 0})
	}, qemu.Config{Attach: qemu.IDE}, lastWord + "write the image to the whole disk"},
}

const verifiedBIOS = "verified: kernel at 01000000, initrd at "

// SeaBIOS as it is: real devices, real errors.
func TestBIOSDevices(t *testing.T) {
	const payload, initrd = mib, mib
	for _, tt := range deviceCases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path, r := stubImage(t, testKernel(t, payload, initrd), words(initrd))
			tt.change(t, path, r)
			tt.c.Image = path
			if strings.HasSuffix(tt.want, "sector ") {
				tt.c.ScreenshotPath = filepath.Join(t.TempDir(), "screen.png")
				tt.want += fmt.Sprintf("%08X", r.extent(t, "kernel").Offset/sectorSize)
			}
			bootBIOS(t, tt.c, tt.want)
			if tt.c.ScreenshotPath != "" {
				if err := onScreen(tt.c.ScreenshotPath, strings.TrimSpace(lastWord), 9, 16); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
