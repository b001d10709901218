package main

import (
	"fmt"

	"laaster/internal/seal"
)

type keyCommand struct {
	ID string `arg:"" optional:"" help:"What the key is called: 1 to 64 of a-z, A-Z, 0-9, dot, underscore and dash. Default: a made-up one."`
}

// Help implements kong.HelpProvider.
func (k *keyCommand) Help() string {
	return "The line is an id and 64 hexadecimal digits. encryption.keys in laaster.yaml names a file of such lines (mode 0600), or as env:NAME a\n" +
		"variable with their text. The first line seals what is written from now on, all lines open: to rotate, put a new line on top and\n" +
		"restart. Lose a key and what it sealed is lost: keep a copy elsewhere than the backups.\n\n" +
		"Examples:\n  (umask 077; laaster key > keys.txt)\n  (umask 077; laaster key 2026-11 | cat - keys.txt > new.txt && mv new.txt keys.txt)"
}

// Run implements the command.
func (k *keyCommand) Run(s *streams) error {
	line, err := seal.NewLine(k.ID)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(s.out, line)
	return err
}
