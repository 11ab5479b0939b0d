package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/isopress/isopress/internal/nix"
)

// EFIStubSystemd, as [Boot.EFIStub], takes systemd's stub: of the closure, else of
// the host.
const EFIStubSystemd = "systemd"

const (
	systemdStub = "lib/systemd/boot/efi/linuxx64.efi.stub"
	maxEFIStub  = 2 << 20
)

// setStub reads the UEFI stub that takes the place of our own.
func (o *Options) setStub(b *bootFiles) error {
	host := o.Boot.EFIStub
	if host == "" {
		return nil
	}
	if host == EFIStubSystemd {
		var err error
		if host, err = o.findSystemdStub(); err != nil {
			return err
		}
	}
	f, size, err := openFile("--efi-stub", host)
	if err != nil {
		return err
	}
	defer f.Close() // read only: nothing is lost with its error
	if size > maxEFIStub {
		return fmt.Errorf("--efi-stub %s: %d bytes: no stub is that large", host, size)
	}
	if b.efiStub, err = io.ReadAll(f); err != nil {
		return named("--efi-stub", host, err)
	}
	sum := sha256.Sum256(b.efiStub)
	b.manifest.EFIStub = hex.EncodeToString(sum[:])
	return nil
}

// findSystemdStub looks in the closure's store paths, then where distributions
// have it. Of several in the closure the first by the path's hash is taken.
func (o *Options) findSystemdStub() (string, error) {
	if c := o.Source.Closure; c != nil {
		for _, p := range c.Paths() {
			name := p + "/" + systemdStub
			if !c.exists(name) {
				continue
			}
			_, host, err := c.resolve(name)
			return host, err
		}
	}
	host := "/usr/" + systemdStub
	if _, err := os.Stat(host); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no %s in the closure under %s, nor %s here: install it (Debian: apt install systemd-boot-efi), or name a stub with --efi-stub", systemdStub, nix.StoreDir, host)
	}
	return host, nil
}
