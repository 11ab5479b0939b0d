// Package patherror changes the file that an error of package os names.
package patherror

import (
	"errors"
	"io/fs"
)

// Renamed is err with its file named as the caller's user knows it.
func Renamed(name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return &fs.PathError{Op: pe.Op, Path: name, Err: pe.Err}
	}
	return err
}

// Bare is the error that err has of its file, without the name.
func Bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
