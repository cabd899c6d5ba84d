"""One golden envelope per payload: every field set. tests/golden/<type>.json holds what must come out."""

from typing import Any

MONEY = {"amount": 499.5, "currency": "INR"}
GEO = {"country": "IN", "region": "Karnataka", "city": "Bengaluru"}
DEVICE = {"platform": "web", "user_agent": "Mozilla/5.0", "screen_resolution": "1920x1080"}
TIME = "2026-11-24T10:15:30.250Z"
PATCH = "NFLX_0A1B2C3D"

PAYLOADS: dict[str, dict[str, Any]] = {
    "cart": {
        "cart_id": "c1", "action": "item_added",
        "items_added": [{"product_id": "p1", "quantity": 1, "price": 0, "category": "patches"}],
        "cart_total": MONEY, "cart_abandonment_duration": "PT15M", "coupon_code": "NEW", "device": DEVICE, "geo": GEO,
    },
    "checkout": {
        "cart_id": "c1", "checkout_status": "completed", "total_order_value": MONEY, "number_of_items": 1,
        "applied_discounts": 0, "payment_method": "upi", "shipping_region": "south", "checkout_duration": "PT2M30.5S",
        "session_id": "s1",
    },
    "payment": {
        "transaction_id": "t1", "payment_gateway": "razorpay", "payment_method": "credit_card",
        "payment_status": "captured", "failure_reason": "none", "amount": 10, "currency": "INR", "refund_amount": 0,
        "confirmation_duration": "PT3S", "risk_score": 12.5,
    },
    "notification": {
        "notification_type": "sms", "notification_event": "reminder", "delivery_status": "delivered",
        "template_id": "t", "vendor": "msg91", "language": "en-US", "trigger_source": "refill", "open_rate": 0.5,
        "click_through_rate": 1,
    },
    "logistics": {
        "warehouse_id": "w", "delivery_partner": "bluedart", "tracking_id": "t", "delivery_status": "in_transit",
        "estimated_delivery": TIME, "actual_delivery": TIME, "delivery_region": "south", "return_status": "none",
        "delivery_delay_duration": "P1D", "delivery_updates": [{"status": "out", "timestamp": TIME, "location": "BLR"}],
    },
    "user": {
        "action": "login", "user_type": "registered", "login_method": "phone_otp", "login_count": 3,
        "last_active": TIME, "email_verified": True, "mobile_verified": False, "referral_code": "r",
        "avg_session_duration": "PT8M", "device": DEVICE, "geo": GEO,
    },
    "inventory": {
        "product_id": "p", "warehouse_id": "w", "stock_level": 4, "action": "sale", "quantity_changed": -2,
        "last_restock": TIME, "out_of_stock_frequency": 0, "product_category": "patches", "avg_turnover_days": 9,
        "returned_units": 0, "daily_units_sold": 2, "reorder_threshold": 3, "shrinkage_rate": 0.01, "supplier_id": "s",
    },
    "feedback": {
        "feedback_id": "f", "rating": 5, "comment": "good", "category": "product", "sentiment": "positive",
        "channel": "app", "resolved": True, "resolution_duration": "PT1H", "tags": ["a"], "helpful_votes": 0,
    },
    "search": {
        "query": "patch", "filters_applied": [{"filter_type": "brand", "filter_value": "x"}], "results_returned": 7,
        "top_clicked_product": "p", "click_position": 1, "abandoned_search": False, "category_clicked": "c",
        "zero_result_flag": False, "search_duration": "PT0.2S", "suggestion_clicked": True,
        "converted_to_order": False, "search_type": "text",
    },
    "recommendation": {
        "recommendation_type": "product", "algorithm": "hybrid",
        "recommended_items": [{"item_id": "i", "item_type": "patch", "score": 0.9, "position": 1}],
        "context": "homepage", "clicked": True, "clicked_item_id": "i", "converted": False, "model_version": "1",
    },
    "promotion": {
        "promotion_id": "p", "promotion_type": "bogo", "action": "viewed", "discount_amount": MONEY,
        "discount_percentage": 10, "minimum_order_value": MONEY, "promotion_channel": "email", "campaign_id": "c",
    },
    "affiliate": {
        "affiliate_id": "a", "action": "click", "commission_rate": 0.1, "commission_amount": MONEY,
        "referral_url": "https://example.org/r?x=1", "conversion_value": MONEY, "tracking_id": "t",
    },
    "subscription": {
        "subscription_id": "s", "action": "created", "plan_id": "p", "billing_cycle": "monthly",
        "subscription_value": MONEY, "trial_period": True, "auto_renewal": True, "cancellation_reason": "price",
    },
    "support": {
        "ticket_id": "t", "action": "resolved", "category": "technical", "priority": "high", "channel": "chat",
        "agent_id": "a", "resolution_duration": "PT30M", "satisfaction_rating": 4,
    },
    "review": {
        "review_id": "r", "product_id": "p", "rating": 1, "review_text": "t", "verified_purchase": True,
        "helpful_votes": 1, "total_votes": 2, "review_status": "approved", "moderation_reason": "m",
    },
    "wishlist": {
        "wishlist_id": "w", "action": "item_added", "product_id": "p", "wishlist_size": 1, "shared_with": ["u"],
        "privacy_setting": "private",
    },
    "comparison": {
        "comparison_id": "c", "products_compared": ["a", "b"], "comparison_criteria": ["price"],
        "selected_product": "a", "comparison_duration": "PT1M",
    },
    "abandonment": {
        "abandonment_type": "cart", "stage": "payment", "abandonment_duration": "PT10M", "cart_value": MONEY,
        "items_count": 2, "exit_page": "https://example.org/cart", "recovery_email_sent": False,
    },
    "referral": {
        "referrer_id": "a", "referee_id": "b", "referral_code": "c", "action": "code_shared",
        "reward_type": "points", "reward_value": MONEY, "sharing_channel": "sms",
    },
    "loyalty": {
        "loyalty_program_id": "l", "action": "points_earned", "points_earned": 5, "points_redeemed": 0,
        "current_points_balance": 5, "tier_level": "gold", "reward_id": "r", "expiry_date": TIME,
    },
    "device_activation": {
        "device_id": PATCH, "batch_number": "BATCH_20260228_0A1",
        "activation_method": "qr_scan", "patient_id": "pt_aaaaaaaaaaaaaaaa", "healthcare_provider": "org",
        "prescription_id": "rx", "device_type": "insulin_patch", "activation_location": GEO,
        "device_metadata": {
            "firmware_version": "1.2.3", "manufacturing_date": "2026-02-28", "expiry_date": "2027-02-28",
            "storage_conditions": {"temperature_range": "2-8 C", "humidity_exposure": 40.5},
        },
    },
    "patch_application": {
        "device_id": PATCH, "application_site": "abdomen", "application_timestamp": TIME,
        "skin_preparation": {"cleaned": True, "hair_removed": False, "skin_condition": "normal"},
        "application_pressure": 1.5, "adhesion_quality": "good", "patient_comfort_score": 10,
        "environmental_conditions": {"temperature": 22.5, "humidity": 40, "altitude": 920},
    },
    "sensor_reading": {
        "device_id": PATCH, "sensor_type": "glucose", "reading_value": 104.5, "unit_of_measurement": "mg/dL",
        "timestamp": TIME, "reading_quality": "high", "calibration_status": "calibrated", "baseline_deviation": -0.5,
        "trend_direction": "stable", "alert_triggered": False, "clinical_significance": "normal",
    },
    "dosage_delivery": {
        "device_id": PATCH, "substance_delivered": "insulin", "dosage_amount": 1.25, "unit_of_measurement": "IU",
        "delivery_timestamp": TIME, "delivery_method": "micro_needle", "delivery_rate": 0.1, "delivery_pressure": 2,
        "delivery_success": True,
        "patient_response": {"immediate_reaction": "none", "pain_level": 0, "absorption_rate": "normal"},
        "reservoir_level_remaining": 88.5,
    },
    "adverse_event": {
        "device_id": PATCH, "event_type": "skin_irritation", "severity": "mild", "reporter_type": "patient",
        "event_description": "redness", "onset_time": TIME, "resolution_time": TIME,
        "medical_intervention_required": False, "regulatory_reporting_required": False,
        "batch_investigation_triggered": False,
        "patient_demographics": {"age_group": "adult", "gender": "not_specified", "medical_conditions": ["x"]},
    },
}


def envelope(event_type: str, data: Any = None, **changes: Any) -> dict[str, Any]:
    """A whole envelope as a dict."""
    made = {
        "type": event_type,
        "data": PAYLOADS[event_type] if data is None else data,
        "occurred_at": TIME,
        "producer": "gw-test",
        "source_service": "patch-gateway",
        "user_id": "pt_aaaaaaaaaaaaaaaa",
        "session_id": "wear-1",
        "trace_id": "0123456789abcdef",
        "idempotency_key": f"{PATCH}.sensor.1.1",
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}
