package iso

import (
	"fmt"
	"slices"
	"strings"
)

// node is a directory or a file of the image's tree, as the caller names it.
type node struct {
	name     string
	path     string
	file     *content // nil for a directory
	children []*node  // sorted by name once the tree is complete
	byName   map[string]*node
}

// content is a file's data in the image.
type content struct {
	File
	pos     int64
	size    int64 // until a Grow file is written, its bound
	placed  bool
	written bool
	holder  *content   // of Within; may be nil
	inside  []*content // the files that lie within it
	pieces  []piece    // of a file that is mapped over others, which nobody writes; else nil
}

// piece is a part of a file where it lies: in the image, in bytes.
type piece struct{ pos, size int64 }

// merged makes one of pieces that follow each other.
func merged(pieces []piece) []piece {
	all := pieces[:1:1]
	for _, p := range pieces[1:] {
		if last := &all[len(all)-1]; last.pos+last.size == p.pos {
			last.size += p.size
			continue
		}
		all = append(all, p)
	}
	return all
}

// add puts a file into the tree, with the directories above it.
func (root *node) add(e *content) error {
	dir := root
	parts := strings.Split(e.Path, "/")
	for i, name := range parts {
		last := i == len(parts)-1
		child := dir.byName[name]
		switch {
		case child == nil:
			child = &node{name: name, path: strings.Join(parts[:i+1], "/")}
			if last {
				child.file = e
			}
			if dir.byName == nil {
				dir.byName = make(map[string]*node)
			}
			dir.byName[name] = child
			dir.children = append(dir.children, child)
		case last && child.file != nil:
			return fmt.Errorf("iso: %s: is there twice", e.Path)
		case last || child.file != nil:
			return fmt.Errorf("iso: %s: is a file and a directory", child.path)
		}
		dir = child
	}
	return nil
}

// sort orders every directory's children by their names' bytes.
func (root *node) sort() {
	slices.SortFunc(root.children, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	for _, c := range root.children {
		c.sort()
	}
}
