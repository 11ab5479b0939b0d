package builder

import (
	"fmt"
	"slices"
	"strings"

	"github.com/isopress/isopress/internal/kcmdline"
)

// maxGRUBCmdline is the x86 kernel's COMMAND_LINE_SIZE, less the NUL. GRUB leaves
// out without a word what is beyond it.
const maxGRUBCmdline = 2047

// grubArgs makes a kernel command line arguments of GRUB's command linux.
//
// GRUB writes them to the kernel by rules of its own (grub-core/lib/cmdline.c):
// one with a space in it in double quotes, and a backslash before each quote and
// backslash. So the quotes are left out here, which leaves the kernel's own
// reading of the words as it was, and what GRUB would change is an error. (Some
// distributions' GRUB lets \x20 and the like through.)
func (m *grubMenu) grubArgs(kernel, line string) ([]string, error) {
	var args []string
	length := len("BOOT_IMAGE=") + len(kernel)
	for _, word := range kcmdline.Words(line) {
		arg := unquoted(word)
		if m.ours {
			arg = plainLabel(arg)
		}
		if err := checkGRUBArg(arg); err != nil {
			return nil, fmt.Errorf("kernel parameter %s: %w", word, err)
		}
		length += len(" ") + len(arg)
		if strings.Contains(arg, " ") {
			length += len(`""`)
		}
		args = append(args, grubWord(arg))
	}
	if length > maxGRUBCmdline {
		return nil, fmt.Errorf("kernel command line of %d bytes with BOOT_IMAGE=, which GRUB adds: the kernel takes %d", length, maxGRUBCmdline)
	}
	return args, nil
}

// plainLabel is a parameter for isopress-init, which reads a volume ID in root= with
// and without escapes.
func plainLabel(arg string) string {
	root, ok := strings.CutPrefix(arg, "root=")
	if id, label := kcmdline.Label(root); ok && label {
		return "root=LABEL=" + id
	}
	return arg
}

func checkGRUBArg(arg string) error {
	for _, c := range []byte(arg) {
		switch {
		case c < ' ' || c > '~':
			return fmt.Errorf("%q is no printable ASCII", c)
		case c == '"' || c == '\'' || c == '\\':
			return fmt.Errorf("holds %q, which GRUB passes to the kernel with a backslash before it; the stub passes it as it is", c)
		}
	}
	return nil
}

// addParams adds parameters to a command line, ahead of what is init's own.
func addParams(line, params string) string {
	if params == "" {
		return line
	}
	words := kcmdline.Words(line)
	i := slices.Index(words, "--")
	if i < 0 {
		i = len(words)
	}
	return strings.Join(slices.Insert(words, i, params), " ")
}

// unquoted is a word of a kernel command line without the quotes that the kernel
// takes off.
func unquoted(word string) string {
	params := kcmdline.Split(word)
	if len(params) != 1 {
		return word // "--"
	}
	if p := params[0]; p.HasValue {
		return p.Key + "=" + p.Value
	}
	return params[0].Key
}
