package load

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// TestProcess: what is said of a process is what it says of itself.
func TestProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("skipped: /proc is Linux's")
	}
	p, tick := Process{os.Getpid()}, 30*time.Millisecond // as coarse as the kernel counts
	for i := range 50_000_000 {
		if i%10_000_000 != 0 {
			continue
		}
		before := ownCPU()
		is, err := p.CPU()
		after := ownCPU()
		if err != nil || is < before-tick || is > after+tick {
			t.Errorf("%s, between %s and %s: %v", is, before, after, err)
		}
	}
	f, err := stat("/proc/self/stat")
	if is, _ := p.CPU(); err != nil || time.Duration(f[11]+f[12])*10*time.Millisecond > is+tick {
		t.Errorf("/proc has %d + %d hundredths, the clock %s: %v", f[11], f[12], is, err)
	}
	kb, peak, err := p.Memory()
	if err != nil || kb < 1000 || peak < kb || !p.Known() {
		t.Errorf("%d KB, at most %d: %v", kb, peak, err)
	}
	if _, err := (Process{}).CPU(); err == nil || (Process{}).Known() {
		t.Error("no process is one")
	}
	if _, _, err := (Process{}).Memory(); err == nil {
		t.Error("no process has memory")
	}
	if busy() < ownCPU()-tick {
		t.Errorf("all programs %s, this one %s", busy(), ownCPU())
	}
}
