package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"laaster/internal/audit"
	"laaster/internal/kit/run"
	"laaster/internal/node"
)

type auditCommand struct {
	Verify auditVerify `cmd:"" help:"Check the audit trail of a data folder, offline: any edit, drop, swap, truncation or rollback is named."`
	Show   auditShow   `cmd:"" help:"Print the records of the audit trail."`
}

type auditFlags struct {
	App  string `arg:"" help:"The app folder."`
	Data string `help:"Data folder. Default .laaster inside the app folder." placeholder:"DIR"`
	JSON bool   `name:"json" help:"Print JSON."`
}

// options reads the settings.
func (f *auditFlags) options() (node.AuditOptions, error) {
	s, err := readSettings(f.App)
	if err != nil {
		return node.AuditOptions{}, err
	}
	switch {
	case f.Data != "":
		s.Data = f.Data
	case !filepath.IsAbs(s.Data):
		s.Data = filepath.Join(f.App, s.Data)
	}
	return node.AuditOptions{Dir: f.App, Settings: s, Node: node.Options{Clock: run.System{}, Logger: slog.New(slog.DiscardHandler)}}, nil
}

type auditVerify struct {
	auditFlags
	Witness string `help:"File with the seals that were kept elsewhere. Default: audit.witness of laaster.yaml." placeholder:"FILE"`
	Key     string `help:"The trail's public key (64 hex digits) as it was noted elsewhere. Default: the one beside the trail." placeholder:"HEX"`
}

// Help implements kong.HelpProvider.
func (a *auditVerify) Help() string {
	return "Reads the trail, its seals, the witness when there is one, and, unless a server has the folder open, the log, and lists what does not fit.\n" +
		"Who can write the whole data folder can put back a whole older state of it: only a witness on another machine shows that.\n\n" +
		"Examples:\n  laaster audit verify my-app\n  laaster audit verify my-app --witness /mnt/elsewhere/seals"
}

// Run implements the command.
func (a *auditVerify) Run(s *streams) error {
	o, err := a.options()
	if err != nil {
		return err
	}
	o.Witness, o.Key = a.Witness, a.Key
	r, unasked, err := node.VerifyAudit(context.Background(), o)
	if err != nil {
		return err
	}
	if a.JSON {
		err := json.NewEncoder(s.out).Encode(struct {
			*audit.Report
			LogNotAsked string `json:",omitempty"`
		}{r, unasked})
		if err != nil {
			return err
		}
	} else {
		fmt.Fprintf(s.out, "trail %s: %d records, %d seals (up to record %d), %d seals of the witness, %d records compared with the log\n",
			r.Trail, r.Records, r.Seals, r.Sealed, r.Witness, r.Logged)
		if unasked != "" {
			fmt.Fprintf(s.out, "the log was not asked: %s\n", unasked)
		}
		for _, p := range r.Problems {
			fmt.Fprintln(s.out, "problem: "+p)
		}
		if len(r.Problems) == 0 {
			fmt.Fprintln(s.out, "nothing is wrong with it")
		}
	}
	if len(r.Problems) > 0 {
		return errSilent
	}
	return nil
}

type auditShow struct{ auditFlags }

// Run implements the command.
func (a *auditShow) Run(s *streams) error {
	o, err := a.options()
	if err != nil {
		return err
	}
	enc := json.NewEncoder(s.out)
	o.Each = func(r *audit.Record) {
		if a.JSON {
			_ = enc.Encode(r)
			return
		}
		var act audit.Act
		if json.Unmarshal(r.Act, &act) != nil {
			fmt.Fprintf(s.out, "%6d  %s\n", r.Number, r.Act)
			return
		}
		fmt.Fprintf(s.out, "%6d  %s  %-10s %-12s %-30s %-8s %s\n", r.Number, time.UnixMicro(act.At).UTC().Format(time.RFC3339), act.Subject, act.Act, act.Object, act.Outcome, act.Details)
	}
	r, err := audit.Verify(filepath.Join(o.Settings.Data, "audit"), audit.VerifyOptions{Each: o.Each})
	if err != nil {
		return err
	}
	if len(r.Problems) > 0 {
		return fmt.Errorf("the trail is not as it was written: laaster audit verify says what is wrong")
	}
	return nil
}
