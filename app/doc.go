// Package app is what an application declares: its tables, views, grants and settings, as plain data.
//
// It imports nothing of ours, so every room can speak its words. Values here are built once by internal/sql (from
// app.sql) and by [LoadSettings] (from laaster.yaml) and are read-only afterwards: they may be shared by any number of
// goroutines without a lock.
package app
