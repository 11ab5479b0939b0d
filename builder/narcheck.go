package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"

	"github.com/isopress/isopress/internal/nix"
	"github.com/isopress/isopress/squashfs"
)

// narCheck compares a store path with the NAR hash that it is registered with, before
// what is known of it is kept by that.
type narCheck struct {
	*nix.NARWriter
	sum  hash.Hash
	info nix.PathInfo
}

// narChecks make the checks of the store paths.
func (c *Closure) narChecks() func(path string) squashfs.TreeCheck {
	infos := map[string]nix.PathInfo{}
	for _, i := range c.registration {
		infos[nix.Base(i.Path)] = i
	}
	return func(path string) squashfs.TreeCheck {
		sum := sha256.New()
		return &narCheck{nix.NewNARWriter(sum), sum, infos[path]}
	}
}

// WriteHeader implements [squashfs.TreeCheck].
func (c *narCheck) WriteHeader(e squashfs.TreeEntry) error {
	return c.NARWriter.WriteHeader(nix.NARHeader(e))
}

// Close implements [squashfs.TreeCheck].
func (c *narCheck) Close() error {
	if err := c.NARWriter.Close(); err != nil {
		return err
	}
	if got := hex.EncodeToString(c.sum.Sum(nil)); got != c.info.NarHash {
		return fmt.Errorf("is not what its registration says: its NAR hash is %s, and should be %s; nix-store --repair-path %s restores it, and the image gets it as it is", got, c.info.NarHash, c.info.Path)
	}
	return nil
}
