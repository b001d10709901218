package push

import "net/http"

// AsksEvents reports whether [Hub.ServeView] answers a request with a stream of events.
func AsksEvents(r *http.Request) bool { return pickFormat(r) == asEvents }
