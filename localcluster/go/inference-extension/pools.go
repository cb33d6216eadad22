package main

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

const (
	poolGroup = "inference.networking.k8s.io"
	poolKind  = "InferencePool"
	failOpen  = "FailOpen"
	h2c       = "kubernetes.io/h2c"
)

var poolGVK = schema.GroupVersionKind{Group: poolGroup, Version: "v1", Kind: poolKind}

// pool is the part of an InferencePool that matters here.
type pool struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector          metav1.LabelSelector `json:"selector"`
		TargetPorts       []port               `json:"targetPorts"`
		AppProtocol       string               `json:"appProtocol"`
		EndpointPickerRef *pickerRef           `json:"endpointPickerRef"`
	} `json:"spec"`
	Status struct {
		Parents []parentStatus `json:"parents"`
	} `json:"status"`
}

type port struct {
	Number int32 `json:"number"`
}

type pickerRef struct {
	Group       string `json:"group"`
	Kind        string `json:"kind"`
	Name        string `json:"name"`
	Port        *port  `json:"port"`
	FailureMode string `json:"failureMode"`
}

type parentStatus struct {
	ParentRef      parentRef          `json:"parentRef"`
	ControllerName string             `json:"controllerName"`
	Conditions     []metav1.Condition `json:"conditions"`
}

type parentRef struct {
	Group     string `json:"group"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

func (p *pool) key() types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

// hasPicker says whether the pool names a picker of the only kind that is supported.
func (p *pool) hasPicker() bool {
	ref := p.Spec.EndpointPickerRef
	return ref != nil && ref.Group == "" && ref.Kind == "Service" && ref.Port != nil
}

// poolName is what a pool is called in the proxies' configuration.
func poolName(key types.NamespacedName) string {
	return fmt.Sprintf("inferencepool/%s/%s", key.Namespace, key.Name)
}

// pickerName is what a pool's picker is called there.
func pickerName(key types.NamespacedName) string {
	return poolName(key) + "/picker"
}

// listPools reads all pools, with the objects that they were read from.
func listPools(ctx context.Context, from client.Reader) ([]pool, []unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(poolGVK)
	if err := from.List(ctx, list); err != nil {
		return nil, nil, err
	}
	pools := make([]pool, len(list.Items))
	for i, item := range list.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &pools[i]); err != nil {
			return nil, nil, err
		}
	}
	return pools, list.Items, nil
}

// poolOf is the pool that a route's reference means, if it means one.
func poolOf(ref gatewayv1.BackendObjectReference, routeNamespace string) (types.NamespacedName, bool) {
	if ref.Group == nil || *ref.Group != poolGroup || ref.Kind == nil || *ref.Kind != poolKind {
		return types.NamespacedName{}, false
	}
	namespace := routeNamespace
	if ref.Namespace != nil {
		namespace = string(*ref.Namespace)
	}
	return types.NamespacedName{Namespace: namespace, Name: string(ref.Name)}, true
}
