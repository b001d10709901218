// Package sdkreact holds the React hooks of the TypeScript SDK, laaster-react: nothing in Go but the tests that build, check and
// run them. The sources are in src/, dist/ is built from them (go test ./sdk/react -update) and committed.
package sdkreact
