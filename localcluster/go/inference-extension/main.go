// Command inference-extension gives Envoy Gateway InferencePools, which it does not know by itself.
//
// Three small parts share one process: Envoy Gateway's extension server adds pools and endpoint
// pickers to the proxies' configuration (translate.go), an endpoint discovery service tells the
// proxies which pods are in a pool and which pick for it, and a controller writes the pools' status
// (controller.go).
package main

import (
	"context"
	"log"
	"net"

	endpointservice "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/envoyproxy/gateway/proto/extension"
)

const address = ":5005"

func main() {
	ctrl.SetLogger(klog.Background())
	if err := run(ctrl.SetupSignalHandler()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	if err := gatewayv1.Install(scheme); err != nil {
		return err
	}
	manager, err := ctrl.NewManager(ctrl.GetConfigOrDie(), ctrl.Options{
		Scheme:  scheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		return err
	}
	endpoints := cache.NewLinearCache(resource.EndpointType)
	if err := addController(manager, endpoints); err != nil {
		return err
	}

	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	// Readers of the API server itself: a translation must not rest on a cache that is older
	// than what Envoy Gateway has just seen.
	translating := &extensionServer{api: manager.GetAPIReader()}
	grpcServer := grpc.NewServer()
	extension.RegisterEnvoyGatewayExtensionServer(grpcServer, translating)
	endpointservice.RegisterEndpointDiscoveryServiceServer(
		grpcServer, server.NewServer(ctx, endpoints, nil))
	go func() {
		<-ctx.Done()
		grpcServer.Stop()
	}()
	go func() {
		if err := grpcServer.Serve(listener); err != nil {
			log.Fatal(err)
		}
	}()
	return manager.Start(ctx)
}
