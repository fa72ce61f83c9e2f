"""etascope: which learning rate, and why. By habit `import etascope as eta`: η is the learning rate."""
