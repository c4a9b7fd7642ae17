"""IN: keeps the subscriptions to KubeArmor open and hands on raw event bytes. The only room that dials KubeArmor."""
