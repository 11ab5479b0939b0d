package builder

import (
	"errors"

	"github.com/isopress/isopress/iso"
)

// appendCmdline changes the kernel command lines of an ISO's boot menus.
func (r *repack) appendCmdline(image *iso.Image, changes *iso.Changes) error {
	if r.CmdlineAppend == "" {
		return nil
	}
	return errors.New("kernel command lines cannot be changed yet")
}
