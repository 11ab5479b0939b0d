package builder

import (
	"fmt"
	"os"
	"strings"

	"github.com/isopress/isopress/iso"
)

// warnLargeInitrds tells of initrds that no BIOS loader has room for beside their kernel.
func (o *Options) warnLargeInitrds(b *bootFiles) error {
	pairs := [][2]*payload{{&b.kernel, &b.initrd}}
	for _, v := range b.variants {
		pairs = append(pairs, [2]*payload{v.kernel, v.initrd})
	}
	told := map[*payload]bool{}
	for _, p := range pairs {
		kernel, initrd := p[0], p[1]
		limit, err := maxInitrd(kernel.host)
		if err != nil {
			return err
		}
		if initrd.size > limit && !told[initrd] {
			told[initrd] = true
			o.warn("%s: %d bytes; from a BIOS this kernel starts with an initrd of at most %d, so the image boots by UEFI only", initrd.host, initrd.size, limit)
		}
	}
	return nil
}

func maxInitrd(kernel string) (int64, error) {
	f, err := os.Open(kernel)
	if err != nil {
		return 0, err
	}
	defer f.Close() // read only: nothing is lost with its error
	return iso.MaxInitrd(f)
}

// hostNames says which files of the host an error is about that names files of the ISO.
func (b *bootFiles) hostNames(err error) error {
	for _, p := range b.payloads() {
		if p.host != "" && strings.Contains(err.Error(), " "+p.name+": ") {
			return fmt.Errorf("%w (%s is %s)", err, p.name, p.host)
		}
	}
	return err
}
