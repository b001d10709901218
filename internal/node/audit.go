package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"laaster/app"
	"laaster/internal/audit"
	"laaster/internal/auth"
	"laaster/internal/backbone"
	"laaster/internal/change"
	"laaster/internal/kit/disk"
	"laaster/internal/wire"
)

// operator is the role of acts on the admin listener and the command line, and their subject where no certificate tells who it is.
const operator = "operator"

// openTrail opens the audit trail, when there is a data folder.
func (n *Node) openTrail() error {
	if n.folder == nil {
		return nil
	}
	kin, err := n.kin()
	if err != nil {
		return err
	}
	n.trail, err = audit.Open(filepath.Join(n.folder.Path(), "audit"), n.opt.Settings.Audit.Witness, kin, n.revokedBy)
	if err != nil {
		return err
	}
	for _, log := range kin[1:] { // a restore began a trail of its own
		if err := audit.Read(n.olderTrail(log), n.revokedBy); err != nil {
			n.opt.Logger.Warn("the audit trail of a log before this one cannot be read: revocations in it may be forgotten", "log", log, "error", err.Error())
		}
	}
	return nil
}

// olderTrail is the folder of the trail of a log of which a restore made this one, or one before it.
func (n *Node) olderTrail(log string) string { return filepath.Join(n.folder.Path(), "audit-"+log) }

// kin lists the log and those that it was made of by repairs.
func (n *Node) kin() ([]string, error) {
	l, err := backbone.ReadLineage(n.folder.Path())
	if err != nil {
		return nil, err
	}
	n.status.Lock()
	n.lineage = l
	n.status.Unlock()
	out := []string{n.shard.ID().String()}
	for _, a := range l.Descend() {
		out = append(out, a.Log)
	}
	return out, nil
}

// audited takes the audit entries of a batch that was applied into the trail.
func (n *Node) audited(b *change.Batch) error {
	n.revoked(b)
	if n.trail == nil {
		return nil
	}
	if err := n.trail.Applied(b); err != nil {
		return fmt.Errorf("batch %d: %w", b.Header().Seq, err)
	}
	return nil
}

// privileged records an act before it is done: an act that cannot be recorded is not done. The function that it returns records how it ended.
func (n *Node) privileged(ctx context.Context, act, object string, details map[string]any) (ended func(error), problem *wire.Problem) {
	record := audit.Act{At: n.opt.Clock.Now().UnixMicro(), Subject: caller(ctx), Role: operator, Act: act, Object: object, Outcome: "begun"}
	if len(details) > 0 {
		record.Details, _ = json.Marshal(details) // of plain values: they have a form
	}
	if _, problem := n.writer.Record(ctx, record.Encode()); problem != nil {
		problem.Detail = "the audit trail does not take the act, so it is not done: " + problem.Detail
		return nil, problem
	}
	return func(err error) {
		record.At, record.Outcome = n.opt.Clock.Now().UnixMicro(), "done"
		if err != nil {
			record.Outcome = "failed"
			record.Details, _ = json.Marshal(map[string]string{"error": err.Error()})
		}
		n.told(&record)
	}, nil
}

// told records an act that was done already, or reports that it could not.
func (n *Node) told(record *audit.Act) bool {
	if n.writer.Tell(record.Encode()) {
		return true
	}
	n.opt.Logger.Error("an act is missing from the audit trail: the log takes no records", "subject", record.Subject, "act", record.Act, "object", record.Object, "outcome", record.Outcome)
	n.degrade("audit", "an act is missing from the audit trail: "+record.Act+" "+record.Object)
	return false
}

// act returns the record of something that happens now.
func (n *Node) act(subject, role, act, object, outcome string) *audit.Act {
	return &audit.Act{At: n.opt.Clock.Now().UnixMicro(), Subject: subject, Role: role, Act: act, Object: object, Outcome: outcome}
}

// watch notes which tables of a definition ask that reads of them are recorded.
func (n *Node) watch(def *app.Definition) {
	asks := map[string]bool{}
	for i := range def.Tables {
		if def.Tables[i].Options["audit"] == "true" {
			asks[def.Tables[i].Name] = true
		}
	}
	n.watched.Store(&asks)
}

// accessed records that a relation is read, or may not be: what cannot be recorded is not read.
func (n *Node) accessed(p auth.Principal, relation string, refused *wire.Problem) *wire.Problem {
	if !(*n.watched.Load())[relation] {
		return nil
	}
	outcome := "done"
	if refused != nil {
		outcome = "refused"
	}
	if n.told(n.act(p.Subject, p.Role, "read", relation, outcome)) {
		return nil
	}
	problem := wire.NewProblem(wire.Busy, "reads of "+relation+" are recorded, and the audit trail is behind").WithHint("read again after the given time")
	problem.RetryAfterMS = 1000
	return problem
}

// refusedPerSecond bounds the records of refused writes: a flood of what costs its sender nothing must not become a flood of the log.
const refusedPerSecond = 50

// refusedWrites counts the records of refused writes of this second, and those that were left out before it.
type refusedWrites struct {
	sync.Mutex
	second int64
	told   int
	silent int
}

// take reports whether another one may be recorded, and how many were left out since the last.
func (r *refusedWrites) take(now time.Time) (silent int, ok bool) {
	r.Lock()
	defer r.Unlock()
	if s := now.Unix(); s != r.second {
		r.second, r.told = s, 0
	}
	if r.told >= refusedPerSecond {
		r.silent++
		return 0, false
	}
	r.told++
	silent, r.silent = r.silent, 0
	return silent, true
}

// notWritten records that somebody may not write what he sent.
func (n *Node) notWritten(p auth.Principal, table string) {
	if !(*n.watched.Load())[table] {
		return
	}
	silent, ok := n.refused.take(n.opt.Clock.Now())
	if !ok {
		return
	}
	record := n.act(p.Subject, p.Role, "write", table, "refused")
	if silent > 0 {
		record.Details, _ = json.Marshal(map[string]int{"not_recorded_before": silent})
	}
	n.told(record)
}

// AuditOptions says what VerifyAudit compares the trail with.
type AuditOptions struct {
	Dir      string // the app folder
	Settings app.Settings
	Witness  string // a file with seals; empty: the one of the settings
	Key      string // the trail's public key in hex; empty: the one beside the trail
	Each     func(*audit.Record)
	Node     Options // clock and logger
}

// VerifyAudit reads the audit trail of a data folder, compares it with the log while no server has it open, and says everything that is wrong.
// unasked says why the log was not asked; empty: it was.
func VerifyAudit(ctx context.Context, o AuditOptions) (r *audit.Report, unasked string, err error) {
	v := audit.VerifyOptions{Witness: o.Witness, Key: o.Key, Each: o.Each}
	if v.Witness == "" {
		v.Witness = o.Settings.Audit.Witness
	}
	o.Node.Dir, o.Node.Settings = o.Dir, o.Settings
	n := &Node{opt: o.Node}
	if _, err := os.Stat(o.Settings.Data); err != nil {
		return nil, "", fmt.Errorf("data folder: %w\n  hint: the trail is in the data folder of an app that has run; --data names another one", err)
	}
	if o.Settings.Backbone == "memory" || o.Settings.Durability == string(backbone.Memory) { // what is in the folder is of other settings
		o.Node.Settings.Backbone, o.Node.Settings.Durability = "embedded", string(backbone.Durable)
		n.opt = o.Node
	}
	temp, err := os.MkdirTemp("", "laaster-audit-")
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	switch err := n.lookAtLog(ctx, temp); {
	case err == nil:
		if v.Kin, err = n.kin(); err != nil {
			return nil, "", errors.Join(err, n.closeStorage())
		}
		v.Log = func(fn func(*change.Batch) error) error { return n.shard.Replay(ctx, n.shard.First(), fn) }
	case errors.As(err, new(*disk.LockedError)):
		unasked = "a server has the data folder open: stop it to have the trail compared with the log too"
	default:
		unasked = "the log cannot be opened: " + err.Error()
	}
	r, err = audit.Verify(filepath.Join(o.Settings.Data, "audit"), v)
	return r, unasked, errors.Join(err, n.closeStorage())
}

// lookAtLog opens the log to read it, and changes nothing in the data folder. The log of an external server is opened as a start does.
func (n *Node) lookAtLog(ctx context.Context, temp string) (err error) {
	s := &n.opt.Settings
	if s.Backbone != "embedded" {
		return n.openLog(ctx)
	}
	if n.keys, err = loadKeys(n.opt.Dir, s.Encryption.Keys); err != nil {
		return err
	}
	if n.folder, err = backbone.HoldFolder(s.Data); err != nil {
		return err
	}
	if n.shard, err = logOfFiles(ctx, s.Data, temp, 0, backbone.Options{Keys: n.keys, Clock: n.opt.Clock}); err != nil {
		return err
	}
	marked, err := backbone.Acknowledged(s.Data, 0)
	if err == nil && marked > n.shard.Head() {
		err = fmt.Errorf("batches %d to %d cannot be read, though they were acknowledged", n.shard.Head()+1, marked)
	}
	return err
}
