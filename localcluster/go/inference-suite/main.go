// Command inference-suite is the official conformance suite of the Gateway API Inference Extension.
//
// Upstream has it as a test, which can only be run from a checkout. The test itself is a function of
// its package; this program runs it as `go test -v` would, and says first which version it is.
package main

import (
	"flag"
	"fmt"
	"log"
	"runtime/debug"
	"testing"

	"sigs.k8s.io/gateway-api-inference-extension/conformance"
)

const module = "sigs.k8s.io/gateway-api-inference-extension/conformance"

func main() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		log.Fatal("the program was built without the versions of its modules")
	}
	for _, one := range info.Deps {
		if one.Path == module {
			fmt.Println("suite", one.Path, one.Version)
		}
	}
	testing.Init()
	if err := flag.Set("test.v", "true"); err != nil {
		log.Fatal(err)
	}
	everything := func(string, string) (bool, error) { return true, nil }
	testing.Main(everything, []testing.InternalTest{{Name: "TestConformance", F: conformance.RunConformance}}, nil, nil)
}
