package squashfs

import (
	"errors"
	"io/fs"
	"strings"
)

// tarMaxSteps bounds the names on the way, those in links' targets included: a
// path has 2048 at most, and links in a row could make it 40 times as many.
const tarMaxSteps = 4096

var errTarSteps = errors.New("a path of too many names")

// tarWalk goes from the root of a tree along a path. It never leaves the tree.
type tarWalk struct {
	steps []tarStep // what it came through, the root first, where it is last
	made  bool      // what is not there is taken for a directory that will be made
	names int
	links int
}

type tarStep struct {
	node *tarNode // nil where it is yet to be made
	name string
}

func newTarWalk(root *tarNode) tarWalk { return tarWalk{steps: []tarStep{{node: root}}} }

func (w *tarWalk) at() *tarNode { return w.steps[len(w.steps)-1].node }

// path is where it is.
func (w *tarWalk) path() string {
	names := make([]string, 0, len(w.steps))
	for _, s := range w.steps[1:] {
		names = append(names, s.name)
	}
	return strings.Join(names, "/")
}

// walk goes along path; if follow, through a last element that is a symbolic link.
func (w *tarWalk) walk(path string, follow bool) error {
	todo := []string{path} // the last first
	for len(todo) > 0 {
		last := len(todo) - 1
		name, rest, more := strings.Cut(todo[last], "/")
		if todo[last] = rest; !more {
			todo = todo[:last]
		}
		if w.names++; w.names > tarMaxSteps {
			return errTarSteps
		}
		target, err := w.step(name, len(todo) > 0 || follow)
		if err != nil {
			return err
		}
		if target != "" {
			todo = append(todo, target)
		}
	}
	return nil
}

// step goes to the entry name of the directory it is at. Of a symbolic link that
// is to be followed it returns the target, and does not go there.
func (w *tarWalk) step(name string, follow bool) (target string, err error) {
	at := w.at()
	if at != nil && !at.isDir() {
		return "", errReaderNotDir
	}
	switch name {
	case "", ".":
		return "", nil
	case "..":
		w.steps = w.steps[:max(len(w.steps)-1, 1)]
		return "", nil
	}
	var next *tarNode
	if at != nil {
		next = at.kids[name]
	}
	if next == nil && !w.made {
		return "", fs.ErrNotExist
	}
	if next == nil || next.kind != typeSymlink || !follow {
		w.steps = append(w.steps, tarStep{next, name})
		return "", nil
	}
	if w.links++; w.links > readerMaxLinks {
		return "", errReaderLinks
	}
	if strings.HasPrefix(next.target, "/") {
		w.steps = w.steps[:1]
	}
	return next.target, nil
}
