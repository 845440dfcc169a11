"""Names of the settings for people, in groups. No Qt."""

from __future__ import annotations

# For each group, the settings of `FitConfig` in it with their titles.
GROUPS: dict[str, dict[str, str]] = {
    "Result": {
        "pretrained": "Learned from",
        "adapt": "Adapt to the image",
        "representation": "Kind of result",
        "detail": "Detail (samples per pixel)",
        "max_steps": "Steps",
        "max_seconds": "Time limit (s)",
        "target_psnr": "Stop at a PSNR (dB)",
        "heldout": "Held-out pixels (share)",
    },
    "Camera and blur": {
        "camera_gain": "Camera gain (grey levels per photon)",
        "camera_offset": "Camera offset (grey levels)",
        "read_noise": "Reading noise (grey levels)",
        "observation": "What a pixel sees",
        "psf_width": "Width of the blur (FWHM)",
        "subsamples": "Samples within a pixel",
        "total_variation": "Smoothness (total variation)",
        "value_range": "Range of the values",
    },
    "Learning from the image": {
        "task": "Task",
        "task_steps": "Steps of the task",
    },
    "Networks": {
        "tile": "Side of a tile (pixels)",
        "parameters_per_value": "Parameters for each value",
        "overlap": "Overlap of tiles (pixels)",
        "hidden_layers": "Sine layers",
        "hidden_features": "Width of a layer",
        "coordinates": "Coordinates",
        "band": "Largest first frequency",
        "omega_0": "Factor in the sines (omega 0)",
        "weight_scale": "Scale of the first weights",
        "standardise": "Normalise each tile",
    },
    "Optimisation": {
        "optimizer": "Optimiser",
        "learning_rate": "Step size of Adam",
        "muon_learning_rate": "Step size of Muon",
        "momentum": "Momentum of Muon",
        "beta1": "Adam: decay of the mean",
        "beta2": "Adam: decay of the square",
        "schedule": "Schedule of the step sizes",
        "final_rate": "Last step size (share)",
        "averaging": "Mean of the weights (decay)",
        "pixels_per_step": "Pixels of a step",
    },
    "Computer": {
        "strict": "Refuse images that do not allow the task",
        "engine": "Engine",
        "precision": "Precision",
        "threads": "Threads",
        "max_memory": "Memory limit (bytes)",
        "memory_fraction": "Share of the free memory",
    },
}
