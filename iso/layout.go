package iso

import (
	"fmt"
	"math"
)

// maxImage is what 32-bit block numbers reach; maxFile keeps sums of sizes far from overflow.
const (
	maxImage = math.MaxUint32 * sectorSize
	espAlign = 4096 // of the file in it: pages of flash, sectors of large disks
	bootEFI  = "EFI/BOOT/BOOTX64.EFI"
)

// bootArea is where the parts of a bootable image lie.
type bootArea struct {
	catalog int64
	stage2  int64
	pos     int64 // of the EFI system partition
	esp     esp
	uki     uki
	ukiPos  int64
	kernel  *content
	initrd  *content // may be nil
	efi     *content // the unified kernel image as a file
}

// end is the first byte behind the EFI system partition.
func (b *bootArea) end() int64 { return b.pos + b.esp.size() }

// collect checks the files and puts them into the tree.
func (w *Writer) collect(files []File, boot *Boot) error {
	w.root = &node{}
	w.byPath = make(map[string]*content, len(files))
	for _, f := range files {
		if err := checkFile(f); err != nil {
			return err
		}
		if f.Size > maxImage {
			return fmt.Errorf("iso: %s: %d bytes, an image holds %d", f.Path, f.Size, int64(maxImage))
		}
		c := &content{File: f, size: f.Size}
		if err := w.root.add(c); err != nil {
			return err
		}
		w.files = append(w.files, c)
		w.byPath[f.Path] = c
	}
	if boot != nil {
		if err := w.collectBoot(boot); err != nil {
			return err
		}
	}
	for _, c := range w.files {
		if !c.placed {
			w.unplaced = append(w.unplaced, c)
		}
	}
	return nil
}

// collectBoot finds the files that boot, and adds the unified kernel image as a file that lies over them.
func (w *Writer) collectBoot(b *Boot) (err error) {
	if err := checkCmdline(b.Cmdline); err != nil {
		return err
	}
	w.boot = &bootArea{}
	if w.boot.kernel, err = w.bootFile("kernel", b.Kernel); err != nil {
		return err
	}
	if b.Initrd != "" {
		if w.boot.initrd, err = w.bootFile("initrd", b.Initrd); err != nil {
			return err
		}
	}
	if b.Initrd == b.Kernel {
		return fmt.Errorf("iso: %s: is kernel and initrd", b.Kernel)
	}
	if err := w.boot.build(b); err != nil {
		return err
	}
	if err := w.root.add(w.boot.efi); err != nil {
		return fmt.Errorf("%w; a bootable image makes %s itself", err, bootEFI)
	}
	return nil
}

// build makes the unified kernel image and the EFI system partition that holds it.
func (b *bootArea) build(o *Boot) (err error) {
	if b.uki, err = newUKI(o, b.kernel, b.initrd); err != nil {
		return err
	}
	b.efi = &content{File: File{Path: bootEFI}, size: b.uki.size, placed: true, mapped: true}
	b.esp, err = newESP(b.uki.size)
	return err
}

func (w *Writer) bootFile(what, path string) (*content, error) {
	c := w.byPath[path]
	switch {
	case c == nil:
		return nil, fmt.Errorf("iso: %s %q: is none of the image's files", what, path)
	case c.Grow:
		return nil, fmt.Errorf("iso: %s %s: its size must be known", what, path)
	case c.size == 0:
		return nil, fmt.Errorf("iso: %s %s: is empty", what, path)
	case c.size > maxUKI:
		return nil, fmt.Errorf("iso: %s %s: %d bytes, the EFI system partition holds %d", what, path, c.size, int64(maxUKI))
	}
	return c, nil
}

// layOut gives everything a position that has one before the files' final sizes are known.
func (w *Writer) layOut(joliet bool) error {
	w.root.sort()
	stamp := recordDate(w.volume.modTime)
	h, err := newHierarchy(w.root, false, stamp)
	if err != nil {
		return err
	}
	w.hierarchies = []*hierarchy{h}
	if joliet {
		if h, err = newHierarchy(w.root, true, stamp); err != nil {
			return err
		}
		w.hierarchies = append(w.hierarchies, h)
	}
	pos := int64(systemArea) + int64(len(w.hierarchies)+1)*sectorSize // with the terminator
	if w.boot != nil {
		w.boot.catalog = pos + sectorSize // behind the boot record
		pos = w.boot.catalog + sectorSize
	}
	for _, h := range w.hierarchies {
		if pos, err = h.place(pos); err != nil {
			return err
		}
	}
	if w.boot != nil {
		pos = w.boot.place(pos)
	}
	w.end = pos
	return w.checkSpace()
}

// place puts stage 2 at pos and the EFI system partition behind it, so that the unified kernel image
// in it is aligned as the most demanding of its parts. It returns the partition's end.
func (b *bootArea) place(pos int64) int64 {
	b.stage2 = pos
	align := max(espAlign, b.kernel.Align)
	if b.initrd != nil {
		align = max(align, b.initrd.Align)
	}
	b.ukiPos = roundUp(pos+stage2Size+b.esp.headSize(), align)
	b.pos = b.ukiPos - b.esp.headSize()
	b.efi.pos = b.ukiPos
	b.kernel.pos += b.ukiPos
	if b.initrd != nil {
		b.initrd.pos += b.ukiPos
	}
	return b.end()
}

// checkSpace refuses an image that its block numbers cannot reach, if every Grow file takes its bound.
func (w *Writer) checkSpace() error {
	end := w.end
	for _, c := range w.unplaced {
		end = roundUp(end, max(c.Align, sectorSize)) + c.size
		if end > maxImage-gptSize-espAlign {
			return fmt.Errorf("iso: %s: does not fit: an image holds %d bytes", c.Path, int64(maxImage))
		}
	}
	return nil
}
