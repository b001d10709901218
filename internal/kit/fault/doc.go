// Package fault has the places where tests make the program fail: named points at which the process may be killed, a clock that may be set
// wrong, and planted bugs that the test harness must catch.
//
// In an ordinary build all of it does nothing and costs nothing. Built with the tag crashpoints, [Point] kills the process (SIGKILL)
// at the hit that the environment names: LAASTER_CRASH="<name>:<n>" is the n-th hit of that point, counted from 1, and "*:<n>" the n-th hit of any; each
// point that is met is noted in the file that LAASTER_CRASH_HITS names, a line for the first hit of each name; [Clock] does what LAASTER_CLOCK says. Built
// with the tag plantedbugs, [Bug] is true for the one bug that LAASTER_BUG names.
package fault
