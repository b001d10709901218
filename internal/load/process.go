package load

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Process reads what the kernel counts of a process on this machine. The zero value is no process: everything is an error.
type Process struct{ PID int }

// errNoProcess says that nothing is known of the server's process.
var errNoProcess = errors.New("the server's process is not known, or /proc is not there")

// Known says whether the process can be looked at.
func (p Process) Known() bool {
	_, err := p.CPU()
	return err == nil
}

// CPU returns the processor time that the process has used, user and system.
func (p Process) CPU() (time.Duration, error) {
	if p.PID <= 0 {
		return 0, errNoProcess
	}
	if t, ok := cpuClock(p.PID); ok {
		return t, nil
	}
	f, err := stat(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return 0, err
	}
	const perSecond = 100 // USER_HZ
	return time.Duration(f[11]+f[12]) * time.Second / perSecond, nil
}

// stat returns the numbers behind the name in a file such as /proc/1/stat.
func stat(path string) ([]int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, errNoProcess
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 22 {
		return nil, errNoProcess
	}
	out := make([]int64, len(fields))
	for i, f := range fields {
		out[i], _ = strconv.ParseInt(f, 10, 64) // the state is a letter
	}
	return out, nil
}

// Memory returns the resident kilobytes of the process, and the most that it ever had.
func (p Process) Memory() (kb, peak int64, err error) {
	if p.PID <= 0 {
		return 0, 0, errNoProcess
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return 0, 0, errNoProcess
	}
	return kilobytes(b, "VmRSS:"), kilobytes(b, "VmHWM:"), nil
}

func kilobytes(b []byte, name string) int64 {
	_, rest, ok := bytes.Cut(b, []byte(name))
	if !ok {
		return 0
	}
	n, _, _ := number(bytes.TrimLeft(rest, " \t"))
	return int64(n)
}

// socketKB returns how much memory the kernel holds for all TCP sockets of the machine, 0 where it does not say.
func socketKB() int64 {
	b, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0
	}
	_, rest, ok := bytes.Cut(b, []byte("\nTCP:"))
	if !ok {
		return 0
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	_, pages, _ := bytes.Cut(line, []byte(" mem "))
	n, _, _ := number(pages)
	return int64(n) * int64(os.Getpagesize()) / 1024
}

// busy returns the processor time that all programs of the machine have used.
func busy() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	var ticks int64
	for i, f := range bytes.Fields(line) {
		if i == 0 || i == 4 || i == 5 || i > 7 { // the name, idle, waiting for the disk, guests
			continue
		}
		n, _, _ := number(f)
		ticks += int64(n)
	}
	return time.Duration(ticks) * time.Second / 100
}

// model returns the processor's name, empty where it is not known.
func model() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	_, rest, _ := bytes.Cut(b, []byte("model name"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(bytes.TrimLeft(line, "\t :"))
}

// kernel returns the kernel's version, empty where it is not known.
func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}
