//go:build linux

package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"laaster/internal/kit/run"
	"laaster/test/ledger"
)

// sourcePoints returns the names of the crash points in the source.
func sourcePoints(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	name := regexp.MustCompile(`"([a-z]+\.[a-z_]+)"`)
	must(t, eachSource(func(text string) {
		for _, line := range strings.Split(text, "\n") {
			if strings.Contains(line, "fault.Point(") || strings.Contains(line, ".point(") {
				for _, m := range name.FindAllStringSubmatch(line, -1) {
					found[m[1]] = true
				}
			}
		}
	}))
	out := make([]string, 0, len(found))
	for n := range found {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

// eachSource calls fn with the text of each source file of the program, without tests.
func eachSource(fn func(text string)) error {
	for _, dir := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "kit/fault") {
				return err
			}
			b, err := os.ReadFile(path)
			fn(string(b))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// scenario is a way to make the program do something, with more in its environment. It reports whether the program died of a crash point. Afterwards
// the server is down.
type scenario struct {
	name  string
	fresh bool // each time on a new data folder
	slow  bool // for the points alone that no scenario before has hit often enough
	run   func(p *prover, env ...string) (died bool)
}

// prover runs scenarios on one rig after the other.
type prover struct {
	t    *testing.T
	r    *ledger.Rig
	disk *disk // of the rig
	rng  *rand.Rand
	turn int // deployments
	runs int

	stood bool // the server ended in this run since its store stood still: no crash point
}

// scenarios are all that crash points are met in.
func scenarios() []scenario {
	return []scenario{
		{"serving", false, false, (*prover).serve},
		{"a new folder", true, false, (*prover).serve},
		{"a deployment", false, false, (*prover).deploy},
		{"a write without room", false, true, (*prover).noRoom},
		{"a full disk", false, true, (*prover).full},
		{"a stall", false, true, (*prover).stall},
		{"a failing sync", false, true, (*prover).failing},
		{"after a failed sync", false, true, (*prover).unsynced},
		{"after a crash", false, true, (*prover).again},
		{"repair", false, true, (*prover).repair},
		{"repair of damage", true, true, (*prover).repairDamage},
		{"backup and restore", false, true, (*prover).backup},
	}
}

// pointSettings have everything happen often: checkpoints, second copies, trims, scrubs.
const pointSettings = `checkpoint: {every: 100ms, log_bytes: 64KiB, copy_every: 1s}
retention: {bytes: 256KiB}
scrub: {rate: 64MiB, every: 1s}
disk: {low_water: 4MiB, reserve: 2MiB}
`

func newProver(t *testing.T) *prover {
	p := &prover{t: t, rng: rand.New(rand.NewPCG(rand.Uint64(), 6)), disk: newDisk(t, 512)}
	p.r = rigged(t, p.disk.data(), pointSettings, ledger.LoadOptions{})
	return p
}

// up starts the server. It reports whether it died of a crash point on the way.
func (p *prover) up(env ...string) (died bool) {
	p.t.Helper()
	err := p.r.Up(env...)
	if ended := (*ledger.Ended)(nil); errors.As(err, &ended) && killed(ended.Err) {
		return true
	}
	if err != nil && p.dead() { // while it was asked for its position
		return true
	}
	must(p.t, err)
	p.r.Load.Go()
	return false
}

// dead reports whether the server has died of a crash point, or does so in this moment.
func (p *prover) dead() bool {
	select {
	case <-p.r.Server.Done():
	case <-run.System{}.After(100 * time.Millisecond):
		return false
	}
	p.r.Target.Down()
	if err := p.r.Server.Wait(time.Second); !killed(err) {
		if !strings.Contains(p.r.Server.Log(), stillStore) {
			p.t.Fatalf("the server ended: %v\n%s", err, last(p.r.Server.Log(), 5000))
		}
		p.t.Log("the store stood still for 30 s and the server ended, as it says that it does (ARCHITECTURE.md)")
		p.stood = true
	}
	return true
}

// stoodStill reports whether the run ended with the store standing still, and forgets it.
func (p *prover) stoodStill() (was bool) {
	was, p.stood = p.stood, false
	return was
}

// stillStore is what a server says that ends since its store waits for itself.
const stillStore = "the store has not answered for"

// killed reports whether a process ended by SIGKILL.
func killed(err error) bool {
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) {
		return false
	}
	w, ok := exit.Sys().(syscall.WaitStatus)
	return ok && w.Signaled() && w.Signal() == syscall.SIGKILL
}

// serving lets the load run for so long or until the server dies.
func (p *prover) serving(d time.Duration) (died bool) {
	select {
	case <-p.r.Server.Done():
		return p.dead()
	case <-run.System{}.After(d):
		return false
	}
}

// stop ends the server as an operator does. It may die of a crash point on the way.
func (p *prover) stop() (died bool) {
	p.t.Helper()
	p.r.Target.Down()
	err := p.r.Server.Stop()
	if err != nil && !killed(err) {
		p.t.Fatalf("stop: %v\n%s", err, last(p.r.Server.Log(), 5000))
	}
	return err != nil
}

func (p *prover) serve(env ...string) bool {
	return p.up(env...) || p.serving(1500*time.Millisecond) || p.stop()
}

// deploy changes a view of the app while it runs.
func (p *prover) deploy(env ...string) bool {
	if p.up(env...) {
		return true
	}
	p.turn++
	sql := ledger.SQL + fmt.Sprintf("CREATE MATERIALIZED VIEW extra AS SELECT count(*) AS n FROM events WHERE amount > %d;\nGRANT SELECT ON extra TO anon;\n", p.turn)
	must(p.t, os.WriteFile(filepath.Join(p.r.Spec.App, "app.sql"), []byte(sql), 0o600))
	out, err := exec.Command(p.r.Spec.Bin, "deploy", p.r.Spec.App, "--server", strings.TrimPrefix(p.r.Server.Admin, "http://")).CombinedOutput()
	if p.dead() {
		return true
	}
	if err != nil {
		p.t.Fatalf("deploy: %v\n%s", err, out)
	}
	return p.serving(200*time.Millisecond) || p.stop()
}

// noRoom has a write to the log find the disk full although the server thought that there was room, as when somebody else takes it in that moment.
func (p *prover) noRoom(env ...string) bool {
	if p.up(env...) || p.serving(200*time.Millisecond) {
		return true
	}
	var next []string // blocks that are written to soon
	streams, err := filepath.Glob(filepath.Join(p.r.Spec.Data, "store", "jetstream", "*", "streams", "*", "msgs"))
	must(p.t, err)
	for _, dir := range streams {
		blocks, err := filepath.Glob(filepath.Join(dir, "*.blk"))
		must(p.t, err)
		newest := 0
		for _, b := range blocks {
			n, _ := strconv.Atoi(strings.TrimSuffix(filepath.Base(b), ".blk"))
			newest = max(newest, n)
		}
		for n := range 3 {
			next = append(next, filepath.Join(dir, fmt.Sprintf("%d.blk", newest+n)))
		}
	}
	before := p.r.Book.High()
	off := injectAt(p.t, p.r, "write,pwrite64", "error=ENOSPC:when=5", next...)
	died := p.serving(300*time.Millisecond) || p.until("writes are taken again", func() bool { return p.r.Book.High().Seq > before.Seq+50 })
	p.r.Target.Down()
	died = died || p.serving(200*time.Millisecond) // nothing is written when strace leaves: a call that it has changed would end as one that does not exist
	off()
	return died || p.stop()
}

// full fills the disk under load and gives the room back, without a restart in between.
func (p *prover) full(env ...string) bool {
	if p.up(env...) || p.serving(200*time.Millisecond) {
		return true
	}
	refused := p.r.Book.Counted("refused: busy")
	release := fill(p.t, p.disk.Dir)
	if p.until("a write is refused", func() bool { return p.r.Book.Counted("refused: busy") > refused }) {
		release()
		return true
	}
	release()
	before := p.r.Book.High()
	return p.until("writes are taken again", func() bool { return p.r.Book.High().Seq > before.Seq+20 }) || p.stop()
}

// until waits until something is so, or the server dies of a crash point.
func (p *prover) until(what string, so func() bool) (died bool) {
	p.t.Helper()
	for late := (run.System{}).After(time.Minute); !so(); {
		if p.serving(10 * time.Millisecond) {
			return true
		}
		select {
		case <-late:
			p.t.Fatalf("never: %s", what)
		default:
		}
	}
	return false
}

// fill takes all room on a disk but a little. The function that it returns gives it back.
func fill(t *testing.T, dir string) (release func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	must(t, err)
	chunk := make([]byte, 256<<10)
	for len(chunk) >= 4096 {
		if _, err := f.Write(chunk); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			chunk = chunk[:len(chunk)/2]
		}
	}
	must(t, f.Close())
	return func() {
		must(t, os.Remove(path))
		syscall.Sync() // a power cut does not bring it back
	}
}

// stall has one sync take longer than an append waits for its answer.
func (p *prover) stall(env ...string) bool {
	if p.up(env...) {
		return true
	}
	off := inject(p.t, p.r, "delay_enter=6000000:when=20")
	died := p.serving(8 * time.Second)
	off()
	return died || p.stop()
}

// failing has every sync fail, so that the server ends by itself or at a crash point.
func (p *prover) failing(env ...string) (died bool) {
	if p.up(env...) {
		return true
	}
	off := inject(p.t, p.r, "error=EIO:when=3+")
	defer off()
	select {
	case <-p.r.Server.Done():
	case <-run.System{}.After(30 * time.Second):
		p.t.Fatal("the server goes on although every sync fails")
	}
	p.r.Target.Down()
	return killed(p.r.Server.Wait(time.Second))
}

// unsynced starts the server after a sync has failed.
func (p *prover) unsynced(env ...string) bool {
	if p.failing() {
		p.t.Fatal("it died without a crash point")
	}
	return p.up(env...) || p.stop()
}

// command runs the program. It reports whether it died of a crash point; other failures end the test.
func (p *prover) command(env []string, args ...string) (died bool) {
	p.t.Helper()
	cmd := exec.Command(p.r.Spec.Bin, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil && !killed(err) {
		p.t.Fatalf("laaster %s: %v\n%s", strings.Join(args, " "), err, last(string(out), 5000))
	}
	return err != nil
}

// repair makes a new log of a whole one; half of the times it is done again after a crash, else the server starts on what is there.
func (p *prover) repair(env ...string) bool {
	if p.up() || p.serving(600*time.Millisecond) || p.stop() {
		p.t.Fatal("it died without a crash point")
	}
	args := []string{"repair", p.r.Spec.App, "--data", p.r.Spec.Data, "--yes", "--rewrite"}
	died := p.command(env, args...)
	p.r.Book.NewLog()
	if died && p.rng.IntN(2) == 0 {
		p.command(nil, args...)
	}
	if !died { // what was there is kept, and fills the disk
		kept, err := filepath.Glob(filepath.Join(p.r.Spec.Data, "damaged-*"))
		must(p.t, err)
		for _, k := range kept {
			must(p.t, os.RemoveAll(k))
		}
	}
	return died
}

// again has the server die where a start has something to clear up, and starts it.
func (p *prover) again(env ...string) bool {
	at := []string{"log.appended", "checkpoint.pages_written", "log.appended", "copy.pages_written", "log.appended", "checkpoint.written", "log.trimmed"}[p.runs%7]
	if p.up("LAASTER_CRASH="+at+":3") || p.serving(3*time.Second) || p.stop() {
		return p.up(env...) || p.stop()
	}
	return p.up(env...) || p.stop()
}

// repairDamage damages the log so that batches are lost, and repairs it. What was acknowledged may be gone then: that is what repair says.
func (p *prover) repairDamage(env ...string) bool {
	if p.up() || p.serving(time.Second) {
		p.t.Fatal("it died without a crash point")
	}
	p.r.Down()
	blocks, err := filepath.Glob(filepath.Join(p.r.Spec.Data, "store", "jetstream", "*", "streams", "*", "msgs", "*.blk"))
	must(p.t, err)
	if len(blocks) == 0 {
		p.t.Fatal("no blocks")
	}
	newest := slices.MaxFunc(blocks, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }) // 9.blk, 10.blk
	b, err := os.ReadFile(newest)
	must(p.t, err)
	behind := []int{400, min(len(b)/50, 4000)}[p.rng.IntN(2)] // in the last batches, which no checkpoint has, or in one that a checkpoint has
	b[len(b)-10-p.rng.IntN(behind)] ^= 4
	must(p.t, os.WriteFile(newest, b, 0o600))
	args := []string{"repair", p.r.Spec.App, "--data", p.r.Spec.Data, "--yes"}
	died := p.command(env, args...)
	if died { // half repaired: only once it is done does the server start
		p.command(nil, args...)
	}
	p.r.Book.NewLog() // by now what the server answered before it was killed has been read
	p.r.Book.Doubt()
	return died
}

// backup makes a backup of the running server and restores it into another folder, which takes the place of the first.
func (p *prover) backup(env ...string) bool {
	p.t.Helper()
	if p.up(env...) || p.serving(300*time.Millisecond) {
		return true
	}
	if err := p.r.Load.Rest(p.t.Context()); err != nil {
		if p.dead() {
			return true
		}
		p.t.Fatal(err)
	}
	file := filepath.Join(p.t.TempDir(), "backup")
	if p.command(env, "backup", file, "--server", strings.TrimPrefix(p.r.Server.Admin, "http://")) {
		_ = os.Remove(file)
		p.command(nil, "backup", file, "--server", strings.TrimPrefix(p.r.Server.Admin, "http://"))
	}
	if p.stop() {
		return true
	}
	p.turn++
	to := fmt.Sprintf("%s-%d", p.disk.data(), p.turn)
	died := p.command(env, "restore", file, "--data", to)
	if died { // what is there is half a folder: it must not be taken for a whole one
		p.halfRestored(to)
		p.command(nil, "restore", file, "--data", to)
	}
	must(p.t, os.RemoveAll(p.r.Spec.Data))
	must(p.t, os.Remove(file))
	p.r.Spec.Data = to
	p.r.Book.NewLog()
	return died
}

// halfRestored checks that a folder in which a restore died is whole, or is refused; then it removes it.
func (p *prover) halfRestored(dir string) {
	p.t.Helper()
	if files, err := os.ReadDir(dir); err != nil || len(files) == 0 {
		return // as good as none
	}
	was := p.r.Spec.Data
	p.r.Spec.Data = dir
	p.r.Book.NewLog()
	err := p.r.Up()
	if ended := (*ledger.Ended)(nil); errors.As(err, &ended) {
		if code := ledger.ExitCode(ended.Err); code != 1 {
			p.t.Errorf("a start on half a restored folder: exit code %d: %s", code, last(ended.Log, 2000))
		}
	} else {
		must(p.t, err)
		must(p.t, p.r.CheckAtRest(p.t.Context(), false))
		clean(p.t, p.r)
		p.r.Down()
	}
	p.r.Spec.Data = was
	must(p.t, os.RemoveAll(dir))
}

// TestLedgerPoints kills the server, and the commands that write, at each of the named points between two effects on the disk. In full every point
// of the source is met and hit five times; in short some are.
func TestLedgerPoints(t *testing.T) {
	source := sourcePoints(t)
	if len(source) < 40 {
		t.Errorf("%d crash points in the source, want at least 40", len(source))
	}
	each := asked(t, "LAASTER_POINT_HITS", 1, 5)
	whole := each >= 5 || os.Getenv("LAASTER_FULL") != ""
	hit, met := map[string]int{}, map[string]bool{}
	for _, s := range scenarios() {
		if !whole && s.name != "serving" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			p := newProver(t)
			renew := func() {
				must(t, errors.Join(p.r.Close(), p.disk.unmount()))
				p = newProver(t)
			}
			file := filepath.Join(t.TempDir(), "hits")
			var names []string
			for look, news := 0, 0; look-news < 3; look++ { // which points it comes to; what depends on chance takes several looks
				if look > 0 && (!s.slow || !whole) {
					break
				}
				if look > 0 && s.fresh {
					renew()
				}
				p.runs++
				if s.run(p, "LAASTER_CRASH_HITS="+file) && !p.stoodStill() {
					t.Fatal("it died without a crash point")
				}
				p.settled()
				b, err := os.ReadFile(file)
				must(t, err)
				all := strings.Fields(string(b))
				slices.Sort(all)
				if all = slices.Compact(all); len(all) > len(names) {
					names, news = all, look
				}
			}
			p.rng.Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
			for i, name := range names {
				if !whole && i >= 8 || s.slow && hit[name] >= each {
					continue
				}
				met[name] = true
				for try := 0; hit[name] < each && try < 6*each; try++ {
					if p.runs++; s.fresh || p.runs > 25 { // the log of one is never trimmed whole
						renew()
					}
					nth := []int{1, 2, 1 + p.rng.IntN(5), 1 + p.rng.IntN(20), 1 + p.rng.IntN(60)}[(hit[name]+p.rng.IntN(2))%5]
					if try > each {
						nth = 1
					}
					if s.run(p, fmt.Sprintf("LAASTER_CRASH=%s:%d", name, nth)) && !p.stoodStill() {
						hit[name]++
						if p.rng.IntN(3) == 0 { // and the power goes as well
							must(t, p.disk.cut())
							must(t, p.disk.back())
						}
					}
					p.settled()
				}
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d points in the source, %d met, hits: %v", len(source), len(met), hit)
	if !whole {
		return
	}
	for _, name := range source {
		if hit[name] < each && !exempt(name) {
			t.Errorf("crash point %s: met %v, hit %d times", name, met[name], hit[name])
		}
	}
}

// exempt lists crash points that need something that this harness does not make.
func exempt(name string) bool {
	return slices.Contains([]string{
		"checkpoint.pages_synced", "copy.pages_synced", // of more pages at once than there are here; internal/checkpoint cuts the power there
	}, name)
}

// settled starts the server and checks it, and leaves it down.
func (p *prover) settled() {
	p.t.Helper()
	must(p.t, p.r.Up())
	must(p.t, p.r.Check(p.t.Context(), false))
	clean(p.t, p.r)
	p.r.Down()
}
