"""What is written in another way here than with timm: what an error says to whoever types timm's."""

from __future__ import annotations

# Arguments of create_model.
ARGUMENTS = {
    "img_size": "image_size=...",
    "checkpoint_path": "weights=FILE",
    "features_only": "model.features(images), with indices=... for timm's out_indices",
    "out_indices": "model.features(images, indices=...)",
    "global_pool": "model.forward_features(images), and pool what it returns",
    "pretrained_cfg": 'the tag in the name, "resnet50.a1_in1k"',
    "pretrained_cfg_overlay": "dataclasses.replace(model.spec, ...)",
    "drop": "drop_rate=...",
    "drop_path": "drop_path_rate=...",
    "device": "jax.device_put(model, device)",
}

# Attributes of a model.
ATTRIBUTES = {
    "default_cfg": "model.spec has the published settings",
    "pretrained_cfg": "model.spec has the published settings",
    "state_dict": "write jaxvision.to_torch(model), or model.params and model.batch_stats",
    "load_state_dict": "write model = jaxvision.load_weights(model, state_dict)",
    "parameters": "write model.params, nested dicts of arrays",
    "named_parameters": "write model.params, nested dicts of arrays",
    "buffers": "write model.batch_stats, nested dicts of arrays",
    "requires_grad_": "leave parameters out of the optimizer, with optax.masked",
    "eval": "calls compute in evaluation mode; model.train(images, key=key) in training mode",
    "forward": "write model(images)",
    "apply": "write model(images), or model.module.apply(model.variables, images, train=False)",
    "forward_intermediates": "write model.features(images, indices=...)",
    "register_forward_hook": "write model.features(images, indices=...)",
    "modules": "model.summary() lists the layers, model.params has their parameters",
    "named_modules": "model.summary() lists the layers, model.params has their parameters",
    "get_classifier": "write model.params; model.with_classifier(num_classes, key=key) replaces it",
    "classifier": "write model.params; model.with_classifier(num_classes, key=key) replaces it",
    "head": "write model.params; model.with_classifier(num_classes, key=key) replaces it",
    "fc": "write model.params; model.with_classifier(num_classes, key=key) replaces it",
    "set_input_size": "write model = model.with_image_size(size)",
    "name": "write model.spec.name",
    "dtype": "write model.module.dtype, which the computation has; parameters are float32",
    "to": "write jax.device_put(model, device)",
    "cpu": "write jax.device_put(model, jax.devices('cpu')[0])",
    "cuda": "write jax.device_put(model, device)",
    "half": "write create_model(..., dtype=jnp.float16)",
    "bfloat16": "write create_model(..., dtype=jnp.bfloat16)",
    "float": "write create_model(..., dtype=jnp.float32)",
    "set_grad_checkpointing": "write create_model(..., remat=True)",
}

# Functions of the package.
FUNCTIONS = {
    "list_pretrained": "write jaxvision.list_models(pretrained=True)",
    "is_model": "write name in jaxvision.list_models()",
    "create_transform": "write jaxvision.preprocess(model)",
    "resolve_data_config": "write jaxvision.preprocess(model), or model.spec for its settings",
    "resolve_model_data_config": "write jaxvision.preprocess(model), or model.spec for its settings",
    "get_pretrained_cfg": "write jaxvision.model_spec(name)",
    "load_checkpoint": "write model = jaxvision.load_weights(model, FILE)",
    "push_to_hf_hub": 'write jaxvision.save_pretrained(model, FOLDER, push_to_hub="OWNER/NAME")',
}
